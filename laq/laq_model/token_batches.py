"""Tokens of every pair of some videos, batch by batch: encoded now, or read from a feature store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from tqdm import tqdm

from .concerto_wrapper import ConcertoEncoder
from .feature_store import FeatureStore, PairName
from .pair_encoding import encode_pairs
from .span_decoding import count_pairs
from .structures import FramePair, PairTokens
from .video.index import VideoIndex
from .webm_dataset import VideoDataConfig, all_pairs

Batches = Iterator[tuple[Sequence[PairName], PairTokens]]


def stored_batches(
    store: FeatureStore,
    *,
    is_wanted: Callable[[str], bool],
    every_n: int,
    max_videos: int,
    batch_size: int,
    task: str,
) -> Batches:
    """The pairs of a store that start at frame 0, every_n, 2 · every_n, ...

    Args:
        is_wanted: whether the video of this name is.
        max_videos: of the wanted ones the first so many; 0 for all.
        task: what the progress bar says.
    """
    names = store.names
    videos = [number for number, video in enumerate(names.videos) if is_wanted(video)]
    chosen = set(videos[:max_videos] if max_videos else videos)
    pairs = [
        pair
        for pair, video in enumerate(names.video_number.tolist())
        if video in chosen and int(names.current_index[pair]) % every_n == 0
    ]
    for start in tqdm(range(0, len(pairs), batch_size), desc=task, unit="batch"):
        batch = pairs[start : start + batch_size]
        yield [names[pair] for pair in batch], store.read(batch)


def encoded_batches(
    encoder: ConcertoEncoder,
    index: VideoIndex,
    data: VideoDataConfig,
    *,
    every_n: int,
    batch_size: int,
    device: torch.device,
    with_sensor: bool,
    task: str,
) -> Batches:
    """The same pairs of the videos of an index, through the encoder.

    Args:
        with_sensor: whether the encoder looks at recorded depth and cameras.

    Raises:
        LAQError: a video breaks while it is read, or recorded geometry is missing.
    """
    total = sum(count_pairs(entry, data, every_n=every_n) for entry in index.videos)

    def pairs() -> Iterator[FramePair]:
        for entry in index.videos:
            yield from all_pairs(index, entry, data, every_n=every_n, with_sensor=with_sensor)

    with tqdm(total=total, desc=task, unit="pair") as progress:
        for names, tokens in encode_pairs(pairs(), encoder, batch_size=batch_size, device=device):
            yield names, tokens
            progress.update(len(names))
