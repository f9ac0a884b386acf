"""Free space between views: which places one view sees past, and which points another view proves gone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from .unproject import project_points

NEIGHBOURHOOD_PX = 3  # a surface within one pixel of the projection may be what is seen there


def sees_past(
    points: Float[Tensor, "images points 3"],
    *,
    depth: Float[Tensor, "images height width"],
    intrinsics: Float[Tensor, "images 3 3"],
    cam_from_world: Float[Tensor, "images 3 4"],
    margin: float,
    margin_share: float = 0.0,
) -> Bool[Tensor, "images points"]:
    """Whether each view sees something behind the place of each of its points, so that nothing stands there.

    True where the point lies before the camera, inside the image, and nearer than the depth around its pixel
    by more than ``margin`` and ``margin_share`` of that depth. Pixels without depth say nothing.

    Args:
        points: in the world of the cameras, and in the unit of the depth.
        depth: along the optical axis; not positive or not finite where there is none.
        intrinsics: pixels of the depth map.
        cam_from_world: OpenCV axes.
        margin: what the depth may be wrong by, in its unit.
        margin_share: the same as a share of the depth: errors grow with it.
    """
    height, width = depth.shape[-2:]
    has_depth = torch.isfinite(depth) & (depth > 0)
    known = torch.where(has_depth, depth, 0.0)  # zero: nothing is nearer
    nearest = -F.max_pool2d(-known[:, None], NEIGHBOURHOOD_PX, stride=1, padding=NEIGHBOURHOOD_PX // 2)
    pixel, point_depth = project_points(points, intrinsics, cam_from_world)
    column, row = (pixel + 0.5).floor().unbind(-1)
    is_inside = (point_depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = torch.where(is_inside, row * width + column, 0.0).long()
    seen = rearrange(nearest, "images 1 h w -> images (h w)").gather(-1, index)
    return is_inside & (point_depth < seen * (1 - margin_share) - margin)


def seen_through_by_others(
    point_map: Float[Tensor, "scenes views height width 3"],
    *,
    depth: Float[Tensor, "scenes views height width"],
    intrinsics: Float[Tensor, "scenes views 3 3"],
    cam_from_world: Float[Tensor, "scenes views 3 4"],
    margin: float,
    margin_share: float,
) -> Bool[Tensor, "scenes views height width"]:
    """Whether any other view of the scene sees past the point of each pixel: what stood there is not there.

    A still surface is never seen through, wherever the camera goes; a moved one is, where it was and, from
    the earlier view, where it will be. What is merely hidden or out of view is not seen through.

    Args: as ``sees_past``.
    """
    views, height, width = point_map.shape[1:4]
    flat = rearrange(point_map, "scenes views h w c -> scenes views (h w) c")
    is_seen_through = torch.zeros(flat.shape[:3], dtype=torch.bool, device=point_map.device)
    for looking in range(views):
        for looked_at in range(views):
            if looking != looked_at:
                is_seen_through[:, looked_at] |= sees_past(
                    flat[:, looked_at],
                    depth=depth[:, looking],
                    intrinsics=intrinsics[:, looking],
                    cam_from_world=cam_from_world[:, looking],
                    margin=margin,
                    margin_share=margin_share,
                )
    return rearrange(is_seen_through, "scenes views (h w) -> scenes views h w", h=height, w=width)
