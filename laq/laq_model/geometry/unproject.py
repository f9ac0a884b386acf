"""Depth to points of the world, and back to pixels.

Source: Hartley & Zisserman, Multiple View Geometry, 2nd ed., §6.1; VGGT (Wang et al. 2025), §3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GeometryError
from .cameras import rotate


def unproject_depth(
    depth: Float[Tensor, "*batch height width"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    cam_from_world: Float[Tensor, "*batch 3 4"],
) -> Float[Tensor, "*batch height width 3"]:
    """Lift each pixel to a world point: x_world = Rᵀ (depth · K⁻¹ [u, v, 1] − t).

    A pixel's (u, v) is its integer (column, row), as in VGGT; there is no half-pixel shift.

    Args:
        depth: along the optical axis, scene units, positive.
        intrinsics: pixels of this depth map's own size.
        cam_from_world: OpenCV axes; translation in scene units.

    Returns:
        World points in scene units. Pixels with no depth give the camera centre: mask them first.

    Raises:
        GeometryError: a focal length is not positive.
    """
    _check_focal_length(intrinsics)
    height, width = depth.shape[-2:]
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None]
    per_image = intrinsics[..., None, None]
    fx, skew, cx = (per_image[..., 0, k, :, :] for k in range(3))
    fy, cy = per_image[..., 1, 1, :, :], per_image[..., 1, 2, :, :]
    ray_y = (v - cy) / fy
    ray_x = (u - cx - skew * ray_y) / fx
    cam_points = torch.stack([ray_x * depth, ray_y * depth, depth], dim=-1)
    translation = cam_from_world[..., 3][..., None, None, :]
    return rotate(cam_from_world[..., :3].mT[..., None, None, :, :], cam_points - translation)


def project_points(
    points: Float[Tensor, "*batch points 3"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    cam_from_world: Float[Tensor, "*batch 3 4"],
) -> tuple[Float[Tensor, "*batch points 2"], Float[Tensor, "*batch points"]]:
    """Where a camera sees world points: pixel (u, v) and depth along the optical axis.

    Pixel centres are integers: a point is inside the image for −0.5 ≤ u < width − 0.5. A pixel means
    nothing where the depth is not positive (at or behind the camera; not finite at depth 0).
    """
    rotation, translation = cam_from_world[..., None, :, :3], cam_from_world[..., None, :, 3]
    x, y, depth = (rotate(rotation, points) + translation).unbind(-1)
    per_camera = intrinsics[..., None]
    ray_x, ray_y = x / depth, y / depth
    u = per_camera[..., 0, 0, :] * ray_x + per_camera[..., 0, 1, :] * ray_y + per_camera[..., 0, 2, :]
    v = per_camera[..., 1, 1, :] * ray_y + per_camera[..., 1, 2, :]
    return torch.stack([u, v], dim=-1), depth


def _check_focal_length(intrinsics: Float[Tensor, "*batch 3 3"]) -> None:
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]])
    if not bool((focal > 0).all()):
        raise GeometryError(
            f"focal lengths must be positive, got {float(focal.min()):g} pixels; check the intrinsics matrix"
        )
