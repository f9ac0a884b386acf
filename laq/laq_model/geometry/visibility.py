"""What each view says of a cell of the world: occupied, free, or unknown (hidden, or out of view)."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..structures import FREE, OCCUPIED, UNKNOWN
from .unproject import project_points


def cell_state(
    cell_centre: Float[Tensor, "scenes cells 3"],
    *,
    is_occupied: Bool[Tensor, "scenes views cells"],
    depth: Float[Tensor, "scenes views height width"],
    intrinsics: Float[Tensor, "scenes views 3 3"],
    cam_from_world: Float[Tensor, "scenes views 3 4"],
    margin: float,
) -> Int[Tensor, "scenes views cells"]:
    """UNKNOWN, FREE or OCCUPIED for each cell in each view.

    A cell is occupied where the view has points in it; free where its centre lies before the camera, inside
    the image, and nearer than the depth seen at its pixel by more than ``margin``; else unknown. A pixel
    without depth says nothing.

    Args:
        cell_centre: in the world of the cameras, and in the unit of the depth.
        is_occupied: cells that hold points of the view.
        depth: along the optical axis; not positive or not finite where there is none.
        intrinsics: pixels of the depth map.
        cam_from_world: OpenCV axes.
        margin: about the size of a cell, in the unit of the depth.
    """
    views, height, width = depth.shape[1:]
    points = cell_centre[:, None].expand(-1, views, -1, -1)
    pixel, centre_depth = project_points(points, intrinsics, cam_from_world)
    column, row = (pixel + 0.5).floor().unbind(-1)
    is_inside = (centre_depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(is_inside, row * width + column, 0.0).long()
    seen_depth = rearrange(depth, "scenes views h w -> scenes views (h w)").gather(-1, index)
    has_depth = torch.isfinite(seen_depth) & (seen_depth > 0)
    is_free = is_inside & has_depth & (centre_depth < seen_depth - margin)
    state = torch.where(is_free, FREE, UNKNOWN)
    return torch.where(is_occupied, OCCUPIED, state)
