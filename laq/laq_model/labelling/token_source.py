"""Where the tokens to label come from: videos through the encoder, or a feature store. Each pair once.

Loading (decoding a video, reading a store) is apart from the networks, and needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from ..concerto_wrapper import build_encoder
from ..encoder_config import EncoderConfig
from ..feature_store import FeatureStore, PairName, Span, extend_plan
from ..pair_encoding import encode_pairs
from ..span_decoding import DecodedSpan, count_pairs, decode_spans
from ..structures import PairTokens
from ..trained_run import TrainedRun
from ..video.index import VideoIndex, build_index
from ..webm_dataset import VideoDataConfig
from .config import LabelConfig

ADVICE = "Label with the encoder that the model was trained with"

Batches = Iterable[tuple[Sequence[PairName], PairTokens]]


@dataclass(frozen=True)
class Part:
    """Some pairs that are labelled together.

    Attributes:
        content: what they are, as plain JSON values.
    """

    num_pairs: int
    content: list[list[Any]]


@dataclass(frozen=True)
class LoadedPart:
    """A part without the networks' share: decoded frames, or tokens; and the videos that failed."""

    content: Any
    skipped: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class TokenSource(Protocol):
    """Parts of a data set, and their tokens."""

    num_videos: int
    skipped: tuple[tuple[str, str], ...]

    def parts(self, part_pairs: int) -> list[Part]:
        """All pairs, each in one part; the same for the same data."""
        ...

    def load(self, part: Part) -> LoadedPart:
        """Read and decode, on the CPU."""
        ...

    def make_encoder(self, device: torch.device) -> Callable[[LoadedPart], Batches]:
        """Build the networks that are needed; what it gives makes names and tokens, batch by batch."""
        ...


class VideoTokens:
    """Decodes and encodes every pair of the videos."""

    def __init__(
        self,
        index: VideoIndex,
        encoder: EncoderConfig,
        data: VideoDataConfig,
        *,
        every_n: int,
        batch_size: int,
    ):
        self.skipped = tuple((video.name, video.reason) for video in index.skipped)
        self.num_videos = len(index.videos) + len(index.skipped)
        self._index, self._encoder, self._data = index, encoder, data
        self._every_n, self._batch_size = every_n, batch_size

    def parts(self, part_pairs: int) -> list[Part]:
        """Whole videos, until a part is full; a longer video is cut."""
        videos = (
            (entry.name, count_pairs(entry, self._data, every_n=self._every_n))
            for entry in self._index.videos
        )
        return [
            Part(
                num_pairs=sum(span.num_pairs for span in spans),
                content=[[span.video, span.first_pair, span.num_pairs] for span in spans],
            )
            for spans in extend_plan([], videos, shard_pairs=part_pairs)
        ]

    def load(self, part: Part) -> LoadedPart:
        """Decode."""
        spans = [Span(*span) for span in part.content]
        decoded = list(decode_spans(self._index, spans, self._data, every_n=self._every_n))
        failed = tuple((span.span.video, span.reason) for span in decoded if span.reason)
        return LoadedPart(decoded, failed)

    def make_encoder(self, device: torch.device) -> Callable[[LoadedPart], Batches]:
        """Frames through VGGT and PTv3."""
        encoder = build_encoder(self._encoder, device=device)

        def encode(loaded: LoadedPart) -> Batches:
            spans: list[DecodedSpan] = loaded.content
            pairs = (pair for span in spans for pair in span.pairs)
            return encode_pairs(pairs, encoder, batch_size=self._batch_size, device=device)

        return encode


class StoreTokens:
    """Reads every pair of a store, or every n-th."""

    def __init__(self, store: FeatureStore, *, every_n: int, max_videos: int, batch_size: int):
        names = store.names
        last_video = max_videos or len(names.videos)
        self._pairs = [
            pair
            for pair, video in enumerate(names.video_number.tolist())
            if video < last_video and names.current_index[pair] % every_n == 0
        ]
        self.skipped = tuple(dict(store.skipped).items())
        self.num_videos = min(last_video, len(names.videos)) + len(self.skipped)
        self._store, self._batch_size = store, batch_size

    def parts(self, part_pairs: int) -> list[Part]:
        """In the order of the store."""
        chunks = (self._pairs[start : start + part_pairs] for start in range(0, len(self._pairs), part_pairs))
        return [Part(num_pairs=len(chunk), content=[[pair] for pair in chunk]) for chunk in chunks]

    def load(self, part: Part) -> LoadedPart:
        """Read rows."""
        pairs = [pair for (pair,) in part.content]
        batches = [
            pairs[start : start + self._batch_size] for start in range(0, len(pairs), self._batch_size)
        ]
        return LoadedPart(
            [([self._store.names[pair] for pair in batch], self._store.read(batch)) for batch in batches]
        )

    def make_encoder(self, device: torch.device) -> Callable[[LoadedPart], Batches]:
        """Nothing is left to do."""
        return lambda loaded: loaded.content


def build_token_source(config: LabelConfig, run: TrainedRun) -> TokenSource:
    """What the flags ask for, once its tokens are known to be those of the model.

    Raises:
        LAQError: no data, missing weights, or tokens of another encoder than the model was trained on.
    """
    if config.features:
        store = FeatureStore(config.features)
        run.refuse_other_store(store, advice=ADVICE)
        return StoreTokens(
            store, every_n=config.every_n, max_videos=config.max_videos, batch_size=config.batch_size
        )
    data = replace(
        run.data,
        data_dir=config.data_dir,
        camera=config.camera or run.data.camera,
        max_videos=config.max_videos,
    )
    encoder = run.encoder_here(
        data,
        vggt_weights=config.vggt_weights,
        concerto_weights=config.concerto_weights,
        advice=ADVICE,
    )
    index = build_index(data)
    print(index.summary())
    return VideoTokens(index, encoder, data, every_n=config.every_n, batch_size=config.batch_size)
