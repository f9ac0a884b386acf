"""What a picture shows where a point of another view would be seen: another colour, if the point has gone.

Depth alone takes its own errors for motion; a surface that looks the same in both views did not move.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from .unproject import project_points

NEIGHBOURHOOD_PX = 3  # single pixels flicker


def color_change(
    point_map: Float[Tensor, "scenes 2 height width 3"],
    *,
    color: Float[Tensor, "scenes 2 height width 3"],
    intrinsics: Float[Tensor, "scenes 2 3 3"],
    cam_from_world: Float[Tensor, "scenes 2 3 4"],
) -> Float[Tensor, "scenes 2 height width"]:
    """Largest difference among R, G and B between each point and what the other frame shows in its place,
    mean over a pixel's neighbourhood.

    Beyond the other frame's edge its border's colour counts.

    Args:
        point_map: in the world of the cameras.
        color: RGB in [0, 1], of the same pixels.
        intrinsics: pixels of the point map.
        cam_from_world: OpenCV axes.
    """
    height, width = point_map.shape[2:4]
    size = point_map.new_tensor([width, height])
    changes = []
    for frame, other in ((0, 1), (1, 0)):
        point = rearrange(point_map[:, frame], "s h w c -> s (h w) c")
        pixel, _ = project_points(point, intrinsics[:, other], cam_from_world[:, other])
        place = rearrange((pixel + 0.5) / size * 2 - 1, "s (h w) c -> s h w c", h=height)
        there = F.grid_sample(
            rearrange(color[:, other], "s h w c -> s c h w"),
            place.nan_to_num(2.0, posinf=2.0, neginf=-2.0).clamp(-2, 2),
            padding_mode="border",
            align_corners=False,
        )
        here = rearrange(color[:, frame], "s h w c -> s c h w")
        change = (there - here).abs().amax(1, keepdim=True)
        changes.append(F.avg_pool2d(change, NEIGHBOURHOOD_PX, stride=1, padding=NEIGHBOURHOOD_PX // 2))
    return torch.cat(changes, dim=1)
