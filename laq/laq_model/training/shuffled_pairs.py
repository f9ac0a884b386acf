"""A control: training where the future is another pair's, so that codes have nothing to tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..structures import UNKNOWN, PairTokens
from .pair_source import PairSource


class ShuffledPairs:
    """A pair source whose futures come from other pairs: nothing connects the frames but chance.

    The partner of a pair is fixed by the seed, so an epoch repeats the same wrong pairs, as it repeats right
    ones. No pair is its own partner.
    """

    def __init__(self, source: PairSource, *, seed: int):
        self.num_train, self.num_held_out = source.num_train, source.num_held_out
        self._source = source
        self._partner = _partners(self.num_train, seed=seed)
        self._held_out_partner = _partners(self.num_held_out, seed=seed)

    def load_train(self, picks: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
        """The pairs, and their partners."""
        partners = [(epoch, self._partner[index]) for epoch, index in picks]
        return self._source.load_train(picks), self._source.load_train(partners)

    def load_held_out(self, indices: Sequence[int]) -> tuple[Any, Any]:
        """The pairs, and their partners."""
        partners = [self._held_out_partner[index] for index in indices]
        return self._source.load_held_out(indices), self._source.load_held_out(partners)

    def tokens(self, loaded: tuple[Any, Any]) -> PairTokens:
        """Each pair's current frame with its partner's future."""
        own, partner = loaded
        return with_future_of(self._source.tokens(own), self._source.tokens(partner))

    def manifest(self) -> dict[str, Any]:
        """The true source's manifest, marked."""
        return {**self._source.manifest(), "shuffled": True}


def with_future_of(current: PairTokens, other: PairTokens) -> PairTokens:
    """Each pair's current frame with the future frame of another pair, at the places that both pairs name.

    Places are compared by position (all boxes are cut alike); where the other pair says nothing, the future
    is unknown.
    """
    # Far below a cell (0.05 of the box); stores round positions in [-1, 1] to float16, by at most 0.00025.
    is_same = (current.position[:, :, None] - other.position[:, None]).abs().amax(-1) < 2e-3
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


def _partners(count: int, *, seed: int) -> list[int]:
    """One cycle through all pairs in random order: each has another for its partner, unless it is alone."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner.tolist()
