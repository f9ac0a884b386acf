"""Every pair of a video, in order, as tokens: what precomputing, labelling and evaluation all walk over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from .concerto_wrapper import ConcertoEncoder
from .errors import VideoReadError
from .feature_store import PairName
from .structures import FramePair, PairTokens
from .video.index import VideoEntry, VideoIndex
from .video.scan import scan_video
from .webm_dataset import VideoDataConfig, all_pairs, collate


def encode_pairs(
    pairs: Iterable[FramePair],
    encoder: ConcertoEncoder,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[list[PairName], PairTokens]]:
    """Encode pairs batch by batch; a pair is a scene of its own, so batches change nothing."""
    remaining = iter(pairs)
    while batch := list(islice(remaining, batch_size)):
        collated = collate(batch)
        frames = collated.frames.to(device).permute(0, 1, 4, 2, 3).float() / 255
        yield [pair_name(pair) for pair in batch], encoder(frames, collated.sensor)


def pair_name(pair: FramePair) -> PairName:
    """The pair's place in its data set, without its pixels."""
    return PairName(
        video=pair.video,
        current_index=pair.current_index,
        future_index=pair.future_index,
        current_time_s=pair.current_time_s,
        future_time_s=pair.future_time_s,
    )


@dataclass(frozen=True)
class FileEncoder:
    """From a video file, wherever it lies, to the tokens of its pairs; what ``encode_video`` takes.

    Attributes:
        data: frame size and frame offset; the rest is not looked at.
        every_n: frames between the starts of neighbouring pairs.
    """

    encoder: ConcertoEncoder
    data: VideoDataConfig
    every_n: int = 1
    batch_size: int = 8
    device: torch.device | str = "cpu"

    def __call__(self, video: str | Path) -> Iterator[tuple[list[PairName], PairTokens]]:
        """Decode the file twice: once to learn its frames, once to encode them.

        Raises:
            VideoReadError: the file cannot be decoded, or is too short for one pair.
            GeometryError: the encoder wants recorded geometry, which a single file has not.
        """
        path = Path(video)
        frames = scan_video(path)
        if frames.num_frames <= self.data.frame_offset:
            raise VideoReadError(
                f"{path} has {frames.num_frames} frames; a pair needs {self.data.frame_offset + 1}"
            )
        entry = VideoEntry(path.name, frames)
        pairs = all_pairs(
            VideoIndex(path.parent, (entry,), ()), entry, self.data, every_n=self.every_n, with_sensor=False
        )
        yield from encode_pairs(pairs, self.encoder, batch_size=self.batch_size, device=self.device)
