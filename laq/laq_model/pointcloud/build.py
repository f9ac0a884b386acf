"""Point maps of all views to one batch of clouds on the scene's shared grid."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..structures import PointCloud
from .batching import count_rows, offset_from_counts
from .sampling import Method, subsample
from .voxelize import cells_of, voxelize


def build_point_cloud(
    point_map_m: Float[Tensor, "scenes views height width 3"],
    *,
    color: Float[Tensor, "scenes views height width 3"],
    normal: Float[Tensor, "scenes views height width 3"],
    is_seen_through: Bool[Tensor, "scenes views height width"],
    displacement_m: Float[Tensor, "scenes views height width 3"],
    is_kept: Bool[Tensor, "scenes views height width"],
    half_extent_m: float,
    voxel_size_m: float,
    max_points: int,
    method: Method = "voxel",
    generator: torch.Generator | None = None,
) -> tuple[PointCloud, Int[Tensor, "points 3"]]:
    """The kept points inside the box, one for each voxel, at most ``max_points`` a view; and their voxels.

    All views share the grid, whose corner is the box's corner (−half, −half, −half). Rows are ordered by
    cloud, then voxel x, y, z, so that equal views give equal bits. A view without points is an empty cloud.

    Args:
        point_map_m: in the scene's levelled world.
        color: RGB in [0, 1].
        normal: unit vectors or zero.
        is_seen_through: by another view.
        displacement_m: of what moved.
        is_kept: pixels that may become points.
        half_extent_m: the box is [−half, half) along each axis.
        voxel_size_m: side of a voxel.
        max_points: most points of one view.
        method: see ``sampling.subsample``.
        generator: for ``random`` only.

    Returns:
        The clouds, and the voxel of each point, from 0 to ceil(2 · half / voxel) − 1.
    """
    scenes, views, height, width = is_kept.shape
    num_clouds, num_voxels = scenes * views, math.ceil(2 * half_extent_m / voxel_size_m)
    coord = rearrange(point_map_m, "b s h w c -> (b s h w) c")
    rows = is_kept.flatten().nonzero().squeeze(-1)
    cell = cells_of(coord[rows], voxel_size=voxel_size_m, origin=-half_extent_m)
    is_inside = ((cell >= 0) & (cell < num_voxels) & (coord[rows].double() < half_extent_m)).all(dim=-1)
    rows = rows[is_inside]
    batch = rows // (height * width)
    voxels = voxelize(coord[rows], batch, voxel_size=voxel_size_m, origin=-half_extent_m)
    batch, rows = batch[voxels.kept], rows[voxels.kept]
    chosen = subsample(
        voxels.grid_coord,
        coord[rows],
        batch,
        max_points=max_points,
        method=method,
        generator=generator,
        num_clouds=num_clouds,
        views=views,
    )
    rows, batch = rows[chosen], batch[chosen]
    cloud = PointCloud(
        coord_m=coord[rows],
        color=rearrange(color, "b s h w c -> (b s h w) c")[rows],
        normal=rearrange(normal, "b s h w c -> (b s h w) c")[rows],
        is_seen_through=is_seen_through.flatten()[rows],
        displacement_m=rearrange(displacement_m, "b s h w c -> (b s h w) c")[rows],
        pixel_index=rows % (height * width),
        offset=offset_from_counts(count_rows(batch, num_groups=num_clouds)),
    )
    return cloud, voxels.grid_coord[chosen]
