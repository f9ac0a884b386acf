"""Points to image patches, or to one token for a whole view: the simpler forms of pooling, for comparison."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from ..structures import PointCloud
from .cell_pooling import CellTokens, mean_tokens

FULL_VIEW_COUNT = 8192  # points of a view that count as full: the default of max_points


def pool_patches(
    feat: Float[Tensor, "points channels"],
    cloud: PointCloud,
    *,
    views: int,
    height: int,
    width: int,
    patch_size: int,
    half_extent_m: float = 1.0,
) -> CellTokens:
    """Tokens of square image patches, row by row; patches at the right and bottom may be cut.

    A patch is no place of the world, so "place in the cell" is the mean position of its points in the whole
    box, in sizes of the box; occupancy is full where each pixel of a patch has a point.

    Args:
        feat: network features of each point of ``cloud``.
        cloud: its pixel_index counts in images of ``height`` × ``width``.
        views: clouds of one scene.
        height: rows of the depth maps.
        width: their columns.
        patch_size: side of a patch, pixels.
        half_extent_m: half the side of the box; ``centre_m`` is (column, row, 0) stretched over it.
    """
    if patch_size < 1:
        raise ConfigError(f"patch_size must be at least 1 pixel, got {patch_size}")
    scenes = len(cloud.offset) // views
    rows, columns = -(-height // patch_size), -(-width // patch_size)
    row, column = cloud.pixel_index // width // patch_size, cloud.pixel_index % width // patch_size
    patch = torch.arange(rows * columns, device=feat.device).double()
    u = ((patch % columns + 0.5) * 2 / columns - 1) * half_extent_m
    v = ((patch.div(columns, rounding_mode="floor") + 0.5) * 2 / rows - 1) * half_extent_m
    centre = torch.stack([u, v, torch.zeros_like(u)], dim=-1).to(cloud.coord_m.dtype)
    return mean_tokens(
        feat,
        cloud,
        views=views,
        cell_index=row * columns + column,
        place_in_cell=cloud.coord_m / (2 * half_extent_m),
        full_count=patch_size**2,
        centre_m=centre.expand(scenes, -1, -1),
        is_valid=torch.ones(scenes, rows * columns, dtype=torch.bool, device=feat.device),
    )


def pool_globally(
    feat: Float[Tensor, "points channels"], cloud: PointCloud, *, views: int, half_extent_m: float = 1.0
) -> CellTokens:
    """One token a view, at the centre of the box: the mean of its points; place as in ``pool_patches``."""
    scenes = len(cloud.offset) // views
    return mean_tokens(
        feat,
        cloud,
        views=views,
        cell_index=torch.zeros_like(cloud.pixel_index),
        place_in_cell=cloud.coord_m / (2 * half_extent_m),
        full_count=FULL_VIEW_COUNT,
        centre_m=cloud.coord_m.new_zeros(scenes, 1, 3),
        is_valid=torch.ones(scenes, 1, dtype=torch.bool, device=feat.device),
    )
