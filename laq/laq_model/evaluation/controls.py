"""Controls: what the same measurement gives where there is nothing to find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..structures import UNKNOWN, PairTokens


def with_future_of(current: PairTokens, other: PairTokens) -> PairTokens:
    """Each pair's current frame with the future frame of another pair, at the places that both pairs name.

    Places are compared by position (all boxes are cut alike); where the other pair says nothing, the future is
    unknown.
    """
    is_same = (current.position[:, :, None] - other.position[:, None]).abs().amax(-1) < 1e-3
    is_same &= current.is_valid[:, :, None] & other.is_valid[:, None]
    place = is_same.int().argmax(-1)
    is_named = is_same.any(-1)
    pair = torch.arange(len(place), device=place.device)[:, None]
    future_feat = other.feat[pair, 1, place] * is_named[..., None]
    future_state = torch.where(is_named, other.state[pair, 1, place], UNKNOWN)
    return PairTokens(
        feat=torch.stack([current.feat[:, 0], future_feat], dim=1),
        state=torch.stack([current.state[:, 0], future_state], dim=1),
        position=current.position,
        is_valid=current.is_valid,
    )


class ShuffledPairs:
    """A pair source whose futures come from other pairs: nothing connects the frames but chance.

    The partner of a pair is fixed by the seed, so an epoch repeats the same wrong pairs, as it repeats right ones.
    """

    def __init__(self, source: Any, *, seed: int):
        self.num_train, self.num_held_out = source.num_train, source.num_held_out
        self._source = source
        generator = torch.Generator().manual_seed(seed)
        self._partner = torch.randperm(self.num_train, generator=generator).tolist()
        self._held_out_partner = torch.randperm(self.num_held_out, generator=generator).tolist()

    def train_batch(self, picks: Sequence[tuple[int, int]]) -> PairTokens:
        """Training pairs with another pair's future."""
        partners = [(epoch, self._partner[index]) for epoch, index in picks]
        return with_future_of(self._source.train_batch(picks), self._source.train_batch(partners))

    def held_out_batch(self, indices: Sequence[int]) -> PairTokens:
        """Held-out pairs with another held-out pair's future."""
        partners = [self._held_out_partner[index] for index in indices]
        return with_future_of(self._source.held_out_batch(indices), self._source.held_out_batch(partners))

    def manifest(self) -> dict[str, Any]:
        """The true source's manifest, marked."""
        return {**self._source.manifest(), "shuffled": True}
