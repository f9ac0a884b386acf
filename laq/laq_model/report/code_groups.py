"""Which pairs share a code, which of them to show, and how far they agree on a direction. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..feature_store import PairName

ENOUGH = 2  # moments that share a code, before one can ask what they have in common
CHANCE_DRAWS = 200


@dataclass(frozen=True)
class CodedPairs:
    """Pairs of frames and their codes.

    Attributes:
        codebook_size: codes that there are.
    """

    names: Sequence[PairName]
    codes: Int[Tensor, "pairs positions"]
    codebook_size: int

    def of(self, rows: Sequence[int]) -> CodedPairs:
        """Some of them."""
        return CodedPairs([self.names[row] for row in rows], self.codes[list(rows)], self.codebook_size)


@dataclass(frozen=True)
class CodeGroup:
    """The pairs with one code at one token position, or with one combination of codes at all positions.

    Attributes:
        position: of the token; None for a whole combination.
        code: one number, or one for each position.
        rows: of all pairs that have it, in their order.
        moments: those of the rows that do not overlap in time.
    """

    position: int | None
    code: tuple[int, ...]
    rows: tuple[int, ...]
    moments: tuple[int, ...]


def most_used(pairs: CodedPairs, *, position: int | None, count: int) -> list[CodeGroup]:
    """The codes that most pairs have, most used first, equals by number; at most ``count``.

    A code that only one moment has, or only moments that overlap, says nothing and is left out.
    """
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, codes in enumerate(pairs.codes.tolist()):
        rows_of[tuple(codes) if position is None else (codes[position],)].append(row)
    groups = []
    for code, rows in sorted(rows_of.items(), key=lambda item: (-len(item[1]), item[0])):
        moments = apart(pairs.names, rows)
        if len(moments) >= ENOUGH:
            groups.append(CodeGroup(position, code, tuple(rows), tuple(moments)))
        if len(groups) == count:
            break
    return groups


def apart(names: Sequence[PairName], rows: Sequence[int]) -> list[int]:
    """Those of the rows that do not overlap in time, video by video, the earliest first."""
    end_of: dict[str, int] = {}
    kept = []
    for row in sorted(rows, key=lambda row: (names[row].video, names[row].current_index)):
        name = names[row]
        if name.current_index >= end_of.get(name.video, 0):
            kept.append(row)
            end_of[name.video] = name.future_index
    return kept


def spread(names: Sequence[PairName], rows: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the rows, evenly over the videos, and over each video's time.

    What is shown must not be chosen by its looks: equal rows give equal choices.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (names[row].video, names[row].current_index)):
        rows_of[names[row].video].append(row)
    videos = [sorted(rows_of)[place] for place in _evenly(len(rows_of), count)]
    quota = dict.fromkeys(videos, 0)
    left = min(count, sum(len(rows_of[video]) for video in videos))
    while left:
        for video in videos:
            if left and quota[video] < len(rows_of[video]):
                quota[video] += 1
                left -= 1
    return [rows_of[video][place] for video in videos for place in _evenly(len(rows_of[video]), quota[video])]


def direction_agreement(shifts: Float[Tensor, "pairs 3"]) -> float:
    """Length of the summed shifts over the sum of their lengths: 1 if all go one way, near 0 if they cancel.

    NaN where nothing moves.
    """
    return float(shifts.sum(0).norm() / shifts.norm(dim=1).sum())


def agreement_by_chance(shifts: Float[Tensor, "pairs 3"], size: int, *, seed: int = 0) -> float:
    """The mean agreement of ``size`` of these pairs, drawn without regard to their codes."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        direction_agreement(shifts[torch.randperm(len(shifts), generator=generator)[:size]])
        for _ in range(CHANCE_DRAWS)
    ]
    return float(np.nanmean(drawn)) if not np.isnan(drawn).all() else float("nan")


def _evenly(total: int, count: int) -> list[int]:
    """``count`` of the numbers below ``total``, evenly; one is the middle, all are all."""
    count = min(total, count)
    return [int((place + 0.5) * total / count) for place in range(count)]
