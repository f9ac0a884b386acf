"""Clouds one after the other: offsets, the cloud of each row, and repeatable sums over groups of rows."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def batch_index(offset: Int[Tensor, " clouds"], total: int) -> Int[Tensor, " points"]:
    """The cloud number of each of ``total`` rows; ``offset`` is the end row of each cloud."""
    rows = torch.arange(total, device=offset.device)
    return torch.searchsorted(offset.long().contiguous(), rows, right=True)


def counts_from_offset(offset: Int[Tensor, " clouds"]) -> Int[Tensor, " clouds"]:
    """Rows of each cloud."""
    return torch.diff(offset, prepend=offset.new_zeros(1))


def offset_from_counts(counts: Int[Tensor, " clouds"]) -> Int[Tensor, " clouds"]:
    """End row of each cloud."""
    return counts.cumsum(0)


def count_rows(group: Int[Tensor, " rows"], *, num_groups: int) -> Int[Tensor, " num_groups"]:
    """Rows of each group, empty groups included. Whole numbers: the order of addition does not matter."""
    counts = torch.zeros(num_groups, dtype=torch.long, device=group.device)
    return counts.index_add_(0, group, torch.ones_like(group))


def rank_in_group(group: Int[Tensor, " rows"], *, num_groups: int) -> Int[Tensor, " rows"]:
    """How many earlier rows belong to a row's own group."""
    order = torch.argsort(group, stable=True)
    counts = count_rows(group, num_groups=num_groups)
    start = counts.cumsum(0) - counts
    rank = torch.empty_like(group)
    rank[order] = torch.arange(len(group), device=group.device) - start[group[order]]
    return rank


def sum_by_group(
    values: Float[Tensor, "rows channels"], group: Int[Tensor, " rows"], *, num_groups: int
) -> Float[Tensor, "num_groups channels"]:
    """Sum of each group's rows, added in row order on every device: equal rows give equal bits.

    On a GPU index_add adds in whatever order its threads arrive, so there the rows are sorted by group and
    each group is added by one thread. On a CPU index_add goes through the rows in order and is ten times
    faster.
    """
    if values.device.type == "cpu":
        return values.new_zeros(num_groups, values.shape[1]).index_add_(0, group, values)
    return _sum_of_sorted(values, group, num_groups=num_groups)


def _sum_of_sorted(
    values: Float[Tensor, "rows channels"], group: Int[Tensor, " rows"], *, num_groups: int
) -> Float[Tensor, "num_groups channels"]:
    order = torch.argsort(group, stable=True)
    lengths = count_rows(group, num_groups=num_groups)
    return torch.segment_reduce(values[order], "sum", lengths=lengths, axis=0, unsafe=True, initial=0)
