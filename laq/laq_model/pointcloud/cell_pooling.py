"""Points to cells of the world: a token is what a view shows in one cell of the scene's box."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..structures import DISPLACEMENT, PointCloud
from .batching import batch_index, count_rows, rank_in_group, sum_by_group
from .voxelize import cells_of

# Points that fill a 5 cm cell of 2 cm voxels; occupancy counts them on a logarithmic scale up to here.
FULL_CELL_COUNT = 16


@dataclass(frozen=True)
class CellTokens:
    """The same places of each scene as seen by each of its views.

    Attributes:
        feat: mean network features of the view's points in the cell, then GEOMETRY_CHANNELS of raw
            geometry; zero where the view has no point.
        is_occupied: the view has a point in the cell.
        centre_m: in the scene's levelled world; for image patches column, row and 0, stretched over the
            box.
        is_valid: False for padding.
    """

    feat: Float[Tensor, "scenes views cells channels"]
    is_occupied: Bool[Tensor, "scenes views cells"]
    centre_m: Float[Tensor, "scenes cells 3"]
    is_valid: Bool[Tensor, "scenes cells"]


def pool_cells(
    feat: Float[Tensor, "points channels"],
    cloud: PointCloud,
    *,
    views: int,
    cell_size_m: float,
    half_extent_m: float,
) -> CellTokens:
    """Tokens of the cells that any view of a scene occupies, ordered by x, y, z, padded to the largest scene.

    Args:
        feat: network features of each point of ``cloud``.
        cloud: points inside the box.
        views: clouds of one scene.
        cell_size_m: side of a cell; cells are counted from the box's corner (−half, −half, −half).
        half_extent_m: half the side of the box.
    """
    scenes = len(cloud.offset) // views
    num_points, per_axis = len(cloud.coord_m), math.ceil(2 * half_extent_m / cell_size_m)
    cloud_index = batch_index(cloud.offset, num_points)
    cell = cells_of(cloud.coord_m, voxel_size=cell_size_m, origin=-half_extent_m).clamp(0, per_axis - 1)
    key = cloud_index // views * per_axis**3 + cell_number(cell, per_axis)
    place, place_of_point = torch.unique(key, return_inverse=True)
    scene_of_place = place // per_axis**3
    slot_of_place = rank_in_group(scene_of_place, num_groups=scenes)
    num_places = count_rows(scene_of_place, num_groups=scenes)
    num_cells = int(num_places.max()) if scenes else 0
    centre = -half_extent_m + (cell_at(place % per_axis**3, per_axis).double() + 0.5) * cell_size_m
    centre_m = cloud.coord_m.new_zeros(scenes, num_cells, 3)
    centre_m[scene_of_place, slot_of_place] = centre.to(centre_m.dtype)
    offset_in_cells = ((cloud.coord_m.double() - centre[place_of_point]) / cell_size_m).to(
        cloud.coord_m.dtype
    )
    return mean_tokens(
        feat,
        cloud,
        views=views,
        cell_index=slot_of_place[place_of_point],
        place_in_cell=offset_in_cells,
        full_count=FULL_CELL_COUNT,
        centre_m=centre_m,
        is_valid=torch.arange(num_cells, device=place.device) < num_places[:, None],
    )


def mean_tokens(
    feat: Float[Tensor, "points channels"],
    cloud: PointCloud,
    *,
    views: int,
    cell_index: Int[Tensor, " points"],
    place_in_cell: Float[Tensor, "points 3"],
    full_count: int,
    centre_m: Float[Tensor, "scenes cells 3"],
    is_valid: Bool[Tensor, "scenes cells"],
) -> CellTokens:
    """Mean features and raw geometry (as ``GEOMETRY_CHANNELS`` lists it) of the points of each view and cell.

    Occupancy is log(1 + count) / log(1 + full_count), at most 1. The displacement is the mean of the points
    that have one. Sums run in row order, in float32.
    """
    num_cells = centre_m.shape[1]
    group = batch_index(cloud.offset, len(feat)) * num_cells + cell_index
    num_groups = len(cloud.offset) * num_cells
    seen_through = cloud.is_seen_through.float()[:, None]
    geometry = torch.cat(
        [seen_through, cloud.displacement_m, place_in_cell, cloud.normal, cloud.color], dim=-1
    )
    count = count_rows(group, num_groups=num_groups)
    num_displaced = count_rows(group[(cloud.displacement_m != 0).any(-1)], num_groups=num_groups)
    # Apart, because joined first they would be copied point by point, the largest of tensors once more.
    total = [sum_by_group(values, group, num_groups=num_groups) for values in (feat.float(), geometry)]
    mean = torch.cat(total, dim=-1).div_(count.clamp(min=1)[:, None])
    mean[:, DISPLACEMENT] *= (count / num_displaced.clamp(min=1))[:, None]
    # A table, because log may round differently at the end of a long tensor and in its middle.
    levels = torch.arange(1, full_count + 2, dtype=torch.float64, device=feat.device).log() / math.log(
        1 + full_count
    )
    occupancy = levels.to(mean.dtype)[count.clamp(max=full_count), None]
    tokens = torch.cat([mean[:, : feat.shape[1]], occupancy, mean[:, feat.shape[1] :]], dim=-1)
    return CellTokens(
        feat=tokens.view(len(centre_m), views, num_cells, tokens.shape[1]),
        is_occupied=(count > 0).view(len(centre_m), views, num_cells),
        centre_m=centre_m,
        is_valid=is_valid,
    )


def cell_number(cell: Int[Tensor, "*batch 3"], per_axis: int) -> Int[Tensor, "*batch"]:
    """Number of a cell of the box, by x, then y, then z."""
    x, y, z = cell.unbind(-1)
    return (x * per_axis + y) * per_axis + z


def cell_at(number: Int[Tensor, " places"], per_axis: int) -> Int[Tensor, "places 3"]:
    """The cell of that ``cell_number``."""
    return torch.stack([number // per_axis**2, number // per_axis % per_axis, number % per_axis], dim=-1)
