"""What each frame says of a place: occupied, free, or unknown; and free places beside what moved.

A place is free in a frame when the frame sees past the points that the other frame has there. A place that
merely lost its points, to subsampling, to a hand before it or to the edge of the picture, is unknown: it
cannot testify.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..structures import FREE, OCCUPIED, SEEN_THROUGH, UNKNOWN
from .batching import count_rows, rank_in_group
from .cell_hash import cell_hash
from .cell_pooling import CellTokens, cell_at, cell_number
from .voxelize import cells_of

SEEN_THROUGH_SHARE = 0.5  # of a place's points, from which the place counts as free
REACH_CELLS = 3  # how far from what moved free places are taken: 15 cm of 5 cm cells


def place_states(cells: CellTokens) -> Int[Tensor, "scenes 2 cells"]:
    """UNKNOWN, FREE or OCCUPIED, for each frame of a pair."""
    is_seen_through = cells.feat[..., SEEN_THROUGH] >= SEEN_THROUGH_SHARE
    is_free = (is_seen_through & cells.is_occupied).flip(1)  # by the other frame
    state = torch.where(is_free, FREE, UNKNOWN)
    return torch.where(cells.is_occupied, OCCUPIED, state)


def with_free_places(
    cells: CellTokens,
    state: Int[Tensor, "scenes 2 cells"],
    *,
    is_free: Callable[[Float[Tensor, "scenes places 3"]], Bool[Tensor, "scenes places"]],
    cell_size_m: float,
    half_extent_m: float,
    max_places: int,
) -> tuple[CellTokens, Int[Tensor, "scenes 2 cells_and_places"]]:
    """The cells, and up to ``max_places`` cells beside what moved that are free in both frames.

    Without these, to ask what will be at a place that is free now would be to say that something will be.
    Which of the candidates are taken follows from a fixed shuffle of the grid.

    Args:
        cells: of the pairs, with their states.
        is_free: whether both frames see past each of these places (metres, the scene's levelled world).
        cell_size_m: side of a cell, counted from the box's corner.
        half_extent_m: half the side of the box.
    """
    scenes, per_axis = len(cells.centre_m), math.ceil(2 * half_extent_m / cell_size_m)
    cell = cells_of(cells.centre_m, voxel_size=cell_size_m, origin=-half_extent_m).clamp(0, per_axis - 1)
    key = cell_number(cell, per_axis)
    is_moved = (cells.feat[..., SEEN_THROUGH] > 0).any(1) & cells.is_valid
    near = torch.zeros(scenes, per_axis**3, device=key.device)
    near.scatter_reduce_(1, key, is_moved.to(near.dtype), "amax")
    near = _largest_in_reach(near.view(scenes, per_axis, per_axis, per_axis)).flatten(1)
    near.scatter_reduce_(1, key, (~cells.is_valid).to(near.dtype), "amin")  # cells with points are not free
    scene, candidate = near.nonzero().unbind(1)
    slot = rank_in_group(scene, num_groups=scenes)
    num_candidates = count_rows(scene, num_groups=scenes)
    width = int(num_candidates.max()) if scenes else 0
    grid = torch.zeros(scenes, width, 3, dtype=torch.long, device=key.device)
    grid[scene, slot] = cell_at(candidate, per_axis)
    centre_m = (-half_extent_m + (grid.double() + 0.5) * cell_size_m).to(cells.centre_m.dtype)
    is_taken = (torch.arange(width, device=key.device) < num_candidates[:, None]) & is_free(centre_m)
    order = torch.where(is_taken, cell_hash(grid), torch.iinfo(torch.long).max)
    chosen = order.argsort(dim=1, stable=True)[:, :max_places]
    is_taken = is_taken.gather(1, chosen)
    centre_m = centre_m.gather(1, chosen[..., None].expand(-1, -1, 3)) * is_taken[..., None]
    feat = cells.feat.new_zeros(scenes, cells.feat.shape[1], chosen.shape[1], cells.feat.shape[-1])
    free_state = torch.where(is_taken, FREE, UNKNOWN)[:, None].expand(-1, state.shape[1], -1)
    return (
        CellTokens(
            feat=torch.cat([cells.feat, feat], dim=2),
            is_occupied=torch.cat([cells.is_occupied, feat[..., 0].bool()], dim=2),
            centre_m=torch.cat([cells.centre_m, centre_m], dim=1),
            is_valid=torch.cat([cells.is_valid, is_taken], dim=1),
        ),
        torch.cat([state, free_state], dim=2),
    )


def _largest_in_reach(grid: Float[Tensor, "scenes x y z"]) -> Float[Tensor, "scenes x y z"]:
    """Largest value of the cube of ``REACH_CELLS`` about each cell: axis by axis, for it costs a fortieth."""
    for axis in (1, 2, 3):
        lines = grid.movedim(axis, -1)
        largest = F.max_pool1d(lines.flatten(1, 2), 2 * REACH_CELLS + 1, stride=1, padding=REACH_CELLS)
        grid = largest.view(lines.shape).movedim(-1, axis)
    return grid
