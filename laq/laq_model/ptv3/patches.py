"""Which points attend to one another: runs of points along a curve, as tables of equal-sized patches.

A cloud of n points with patch size K, in serial order (Wu et al. 2024, §4.3, variable-length form):

* n < K: one patch of n points;
* n ≥ K: ⌊n / K⌋ full patches, and if r = n mod K points are left, one more patch whose queries are these r
  and whose keys are the cloud's last K points.

Full patches of all clouds are stacked. Each cloud's rest is rounded up to a length of its own (never to a
neighbour's), and rests of equal lengths are stacked, so that its patches do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

LENGTH_STEP = (
    64  # points; a rest is rounded up to a multiple, so a batch of any size has at most a few groups
)


@dataclass(frozen=True)
class PatchGroup:
    """Patches of one shape.

    Attributes:
        query: what attends; padding repeats a point of the cloud.
        key: what is attended to; the same tensor as ``query`` where both agree.
        is_key: False for padding; None if there is none.
    """

    query: Int[Tensor, "patches queries"]
    key: Int[Tensor, "patches keys"]
    is_key: Bool[Tensor, "patches 1 1 keys"] | None


@dataclass(frozen=True)
class PatchTable:
    """All patches of a stage. Entries are places in the serial order, or rows once an order was applied.

    Attributes:
        groups: patches by shape; their outputs, flattened and joined, are the slots.
        slot: where the output of each place (or row) stands among the slots.
    """

    groups: tuple[PatchGroup, ...]
    slot: Int[Tensor, " _"]


def build_patches(
    counts: Sequence[int], patch_size: int, *, cloud_index: Int[Tensor, " points"]
) -> PatchTable:
    """Patches of clouds of ``counts`` points, by place in the serial order; ``cloud_index`` ascends."""
    device = cloud_index.device
    count = torch.tensor(counts, dtype=torch.long)
    end = count.cumsum(0)
    num_full = count // patch_size
    rest = count - num_full * patch_size
    first_slot_full = (num_full.cumsum(0) - num_full) * patch_size
    first_slot_rest = torch.zeros_like(count)
    groups = []
    next_slot = int(num_full.sum()) * patch_size
    if next_slot:
        patch_start = torch.repeat_interleave(end - count - first_slot_full, num_full)
        patch_start = patch_start + torch.arange(len(patch_start)) * patch_size
        places = patch_start.to(device)[:, None] + torch.arange(patch_size, device=device)
        groups.append(PatchGroup(query=places, key=places, is_key=None))

    num_queries = ((rest + LENGTH_STEP - 1) // LENGTH_STEP * LENGTH_STEP).clamp(max=patch_size)
    has_full = num_full > 0
    shape = num_queries * 2 + has_full  # two clouds' rests are stacked if their lengths and kinds agree
    for value in torch.unique(shape[rest > 0]).tolist():
        member = ((shape == value) & (rest > 0)).nonzero().squeeze(1)
        queries, follows_full = value // 2, bool(value % 2)
        first_slot_rest[member] = next_slot + torch.arange(len(member)) * queries
        if follows_full:
            first_slot_rest[member] += queries - rest[member]
        next_slot += len(member) * queries
        groups.append(
            _rest_group(
                end=end[member].to(device),
                rest=rest[member].to(device),
                queries=queries,
                keys=patch_size if follows_full else queries,
                follows_full=follows_full,
                is_padded=not follows_full and bool((rest[member] < queries).any()),
            )
        )

    place = torch.arange(len(cloud_index), device=device)
    local = place - (end - count).to(device)[cloud_index]
    in_full = (num_full * patch_size).to(device)[cloud_index]
    slot = torch.where(
        local < in_full,
        first_slot_full.to(device)[cloud_index] + local,
        first_slot_rest.to(device)[cloud_index] + local - in_full,
    )
    return PatchTable(groups=tuple(groups), slot=slot)


def _rest_group(
    *,
    end: Int[Tensor, " patches"],
    rest: Int[Tensor, " patches"],
    queries: int,
    keys: int,
    follows_full: bool,
    is_padded: bool,
) -> PatchGroup:
    if follows_full:  # counted back from the cloud's end
        query = end[:, None] + torch.arange(-queries, 0, device=end.device)
        return PatchGroup(query, end[:, None] + torch.arange(-keys, 0, device=end.device), None)
    step = torch.arange(queries, device=end.device)
    place = (end - rest)[:, None] + torch.minimum(step, rest[:, None] - 1)
    is_key = (step < rest[:, None])[:, None, None] if is_padded else None
    return PatchGroup(place, place, is_key)


def apply_order(
    patches: PatchTable, order: Int[Tensor, " points"], rank: Int[Tensor, " points"]
) -> PatchTable:
    """The same patches by row; ``order`` lists the rows along a curve, ``rank`` says where each stands."""
    groups = []
    for group in patches.groups:
        query = _rows_at(order, group.query)
        key = query if group.key is group.query else _rows_at(order, group.key)
        groups.append(PatchGroup(query, key, group.is_key))
    return PatchTable(groups=tuple(groups), slot=patches.slot.index_select(0, rank))


def _rows_at(
    order: Int[Tensor, " points"], place: Int[Tensor, "patches length"]
) -> Int[Tensor, "patches length"]:
    return order.index_select(0, place.flatten()).view_as(place)
