"""Where training pairs come from: videos through the encoder, or a feature store. Same pairs, same order.

Which pairs a step sees follows from (seed, step) alone, so any number of processes and any resumed run see the
same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from ..concerto_wrapper import ConcertoEncoder
from ..errors import DatasetError
from ..feature_store import FeatureStore
from ..structures import PairTokens
from ..video.pairs import split_videos
from ..webm_dataset import PairDataset, collate


class PairSource(Protocol):
    """Tokens of training pairs by (epoch, index), and of held-out pairs."""

    num_train: int
    num_held_out: int

    def train_batch(self, picks: Sequence[tuple[int, int]]) -> PairTokens:
        """Tokens of the training pairs (epoch, index)."""
        ...

    def held_out_batch(self, indices: Sequence[int]) -> PairTokens:
        """Tokens of held-out pairs."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What the data are, for the record of the run."""
        ...


class VideoPairs:
    """Decodes and encodes the pairs of every step."""

    def __init__(
        self, train: PairDataset, held_out: PairDataset, encoder: ConcertoEncoder, device: torch.device
    ):
        self.num_train, self.num_held_out = len(train), len(held_out)
        self._train, self._held_out = train, held_out
        self._encoder = encoder
        self._device = device

    def train_batch(self, picks: Sequence[tuple[int, int]]) -> PairTokens:
        """Decode, then encode."""
        return self._encode([self._train.get(epoch, index) for epoch, index in picks])

    def held_out_batch(self, indices: Sequence[int]) -> PairTokens:
        """Decode, then encode; held-out pairs are the same in every evaluation."""
        return self._encode([self._held_out.get(0, index) for index in indices])

    def _encode(self, pairs: list[Any]) -> PairTokens:
        batch = collate(pairs)
        frames = batch.frames.to(self._device).permute(0, 1, 4, 2, 3).float() / 255
        return self._encoder(frames, batch.sensor)

    def manifest(self) -> dict[str, Any]:
        """Names of the videos on both sides, and what was skipped."""
        return {**self._train.manifest(), "held_out": self._held_out.manifest()["videos"]}


class StorePairs:
    """Reads pairs that were encoded before; the split by video is the same as for videos."""

    def __init__(self, store: FeatureStore, *, held_out_fraction: float, device: torch.device):
        held_out_names = split_videos({name.video for name in store.names}, held_out_fraction)[1]
        self._train_rows = [i for i, name in enumerate(store.names) if name.video not in held_out_names]
        self._held_out_rows = [i for i, name in enumerate(store.names) if name.video in held_out_names]
        if not self._train_rows or not self._held_out_rows:
            raise DatasetError(
                f"{store.folder} has pairs of too few videos to hold some out; precompute at least two videos"
            )
        self.num_train, self.num_held_out = len(self._train_rows), len(self._held_out_rows)
        self._store = store
        self._device = device

    def train_batch(self, picks: Sequence[tuple[int, int]]) -> PairTokens:
        """Read rows; an epoch visits each once."""
        return self._store.read([self._train_rows[index] for _, index in picks]).to(self._device)

    def held_out_batch(self, indices: Sequence[int]) -> PairTokens:
        """Read rows."""
        return self._store.read([self._held_out_rows[index] for index in indices]).to(self._device)

    def manifest(self) -> dict[str, Any]:
        """The store's own description and the held-out videos."""
        names = self._store.names
        return {
            "store": self._store.description,
            "videos": sorted({names[row].video for row in self._train_rows}),
            "held_out": sorted({names[row].video for row in self._held_out_rows}),
        }


def picks_of_step(step: int, *, batch_size: int, num_train: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, index) of every pair in the global batch of ``step``; each epoch is one shuffled pass."""
    first = step * batch_size
    orders: dict[int, list[int]] = {}
    picks = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, num_train)
        if epoch not in orders:
            # Two draws of one seed: mixing seed and epoch by a large odd number keeps epochs apart.
            generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + epoch) % 2**63)
            orders[epoch] = torch.randperm(num_train, generator=generator).tolist()
        picks.append((epoch, orders[epoch][place]))
    return picks


def spread_indices(count: int, limit: int) -> Iterator[int]:
    """At most ``limit`` indices, evenly spread over ``count``."""
    taken = min(count, limit)
    return (index * count // taken for index in range(taken))
