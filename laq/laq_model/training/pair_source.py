"""Where training pairs come from: videos through the encoder, or a feature store. Same pairs, same order.

Which pairs a step sees follows from (seed, step) alone, so any number of processes and any resumed run see
the same data. Loading (from the disk, on the CPU) is apart from encoding (on the device), so that the next
step's pairs can be loaded while this one computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int

from ..concerto_wrapper import ConcertoEncoder
from ..errors import DatasetError
from ..feature_store import FeatureStore
from ..structures import PairTokens
from ..video.pairs import split_videos
from ..webm_dataset import PairBatch, PairDataset, collate


@runtime_checkable
class PairSource(Protocol):
    """Tokens of training pairs by (epoch, index), and of held-out pairs."""

    num_train: int
    num_held_out: int

    def load_train(self, picks: Sequence[tuple[int, int]]) -> Any:
        """The training pairs (epoch, index), as they come from the disk; safe in another thread."""
        ...

    def load_held_out(self, indices: Sequence[int]) -> Any:
        """Held-out pairs; the same in every evaluation."""
        ...

    def tokens(self, loaded: Any) -> PairTokens:
        """Tokens of loaded pairs, on the device."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What the data are, for the record of the run."""
        ...


class VideoPairs:
    """Decodes and encodes the pairs of every step."""

    def __init__(
        self,
        train: PairDataset,
        held_out: PairDataset,
        encoder: ConcertoEncoder,
        device: torch.device,
        *,
        token_description: dict[str, Any],
    ):
        self.num_train, self.num_held_out = len(train), len(held_out)
        self._train, self._held_out = train, held_out
        self._encoder = encoder
        self._device = device
        self._token_description = token_description

    def load_train(self, picks: Sequence[tuple[int, int]]) -> PairBatch:
        """Decode."""
        return collate(self._train.get_many(picks))

    def load_held_out(self, indices: Sequence[int]) -> PairBatch:
        """Decode."""
        return collate(self._held_out.get_many([(0, index) for index in indices]))

    def tokens(self, loaded: PairBatch) -> PairTokens:
        """Encode."""
        frames = loaded.frames.to(self._device).permute(0, 1, 4, 2, 3).float() / 255
        return self._encoder(frames, loaded.sensor)

    def manifest(self) -> dict[str, Any]:
        """Names of the videos on both sides, what was skipped, and what the tokens are."""
        return {
            **self._train.manifest(),
            "held_out": self._held_out.manifest()["videos"],
            "tokens": self._token_description,
        }


class StorePairs:
    """Reads pairs that were encoded before; the split by video is the same as for videos."""

    def __init__(self, store: FeatureStore, *, held_out_fraction: float, device: torch.device):
        names = store.names
        held_out_videos = split_videos(names.videos, held_out_fraction)[1]
        is_held_out = np.array([video in held_out_videos for video in names.videos])[names.video_number]
        self._train_rows = np.flatnonzero(~is_held_out)
        self._held_out_rows = np.flatnonzero(is_held_out)
        if not len(self._train_rows) or not len(self._held_out_rows):
            raise DatasetError(
                f"{store.folder} has pairs of too few videos to hold some out; precompute at least two videos"
            )
        self.num_train, self.num_held_out = len(self._train_rows), len(self._held_out_rows)
        self._store = store
        self._device = device

    def load_train(self, picks: Sequence[tuple[int, int]]) -> PairTokens:
        """Read; an epoch visits each pair once."""
        return self._store.read(self._train_rows[[index for _, index in picks]].tolist())

    def load_held_out(self, indices: Sequence[int]) -> PairTokens:
        """Read."""
        return self._store.read(self._held_out_rows[list(indices)].tolist())

    def tokens(self, loaded: PairTokens) -> PairTokens:
        """Move to the device."""
        return loaded.to(self._device)

    def manifest(self) -> dict[str, Any]:
        """The pairs of each video on both sides, what was skipped, and what the tokens are."""
        names = self._store.names
        return {
            "store": str(self._store.folder),
            "videos": self._count(names.videos, names.video_number[self._train_rows]),
            "held_out": self._count(names.videos, names.video_number[self._held_out_rows]),
            "skipped": dict(self._store.skipped),
            "tokens": self._store.description,
        }

    @staticmethod
    def _count(videos: Sequence[str], numbers: Int[np.ndarray, " pairs"]) -> dict[str, int]:
        counts = np.bincount(numbers, minlength=len(videos)).tolist()
        return {video: count for video, count in zip(videos, counts, strict=True) if count}


def picks_of_step(step: int, *, batch_size: int, num_train: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of every pair in the global batch of ``step``; each epoch is one shuffled pass."""
    first = step * batch_size
    picks = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, num_train)
        picks.append((epoch, int(_epoch_order(epoch, num_train=num_train, seed=seed)[place])))
    return picks


@lru_cache(maxsize=2)
def _epoch_order(epoch: int, *, num_train: int, seed: int) -> Int[np.ndarray, " pairs"]:
    # Two draws of one seed: mixing seed and epoch by a large odd number keeps epochs apart.
    generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + epoch) % 2**63)
    return torch.randperm(num_train, generator=generator).numpy()


def spread_indices(count: int, limit: int) -> Iterator[int]:
    """At most ``limit`` indices, evenly spread over ``count``."""
    taken = min(count, limit)
    return (index * count // taken for index in range(taken))
