"""Surface normals of a point map, from the differences of neighbouring pixels."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Sine of the angle between the two surface directions below which float32 differences span no plane.
MIN_SINE = 1e-6


def normals_from_point_map(
    point_map: Float[Tensor, "*batch height width 3"],
    *,
    is_valid: Bool[Tensor, "*batch height width"],
    camera_centre: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch height width 3"]:
    """Unit normals, turned toward the camera: the cross product of the directions along row and column.

    A direction is the difference of the two neighbours, or of the pixel and its only valid neighbour.
    Invalid pixels are never read.

    Args:
        point_map: in any frame and unit.
        is_valid: pixels that hold a point.
        camera_centre: in the point map's frame and unit.

    Returns:
        Zero where undefined: invalid pixels, no valid neighbour along an axis, or directions that are
        parallel.
    """
    along_row = _unit(_direction(point_map, is_valid, axis=-2))
    along_column = _unit(_direction(point_map, is_valid, axis=-3))
    cross = torch.linalg.cross(along_row, along_column)
    is_defined = is_valid & (_length(cross).squeeze(-1) > MIN_SINE)
    to_camera = camera_centre[..., None, None, :] - point_map
    products = cross * to_camera
    faces_away = products[..., 0] + products[..., 1] + products[..., 2] < 0
    normal = _unit(torch.where(faces_away[..., None], -cross, cross))
    return torch.where(is_defined[..., None], normal, torch.zeros_like(normal))


def _direction(
    points: Float[Tensor, "*batch height width 3"],
    is_valid: Bool[Tensor, "*batch height width"],
    *,
    axis: int,
) -> Float[Tensor, "*batch height width 3"]:
    """Difference along one image axis of the point map; zero where no neighbour is valid."""
    size = points.shape[axis]
    index = torch.arange(size, device=points.device)
    after, before = (index + 1).clamp(max=size - 1), (index - 1).clamp(min=0)
    has_after = is_valid.index_select(axis + 1, after)
    has_before = is_valid.index_select(axis + 1, before)
    # At a border the neighbour is the pixel itself: a one-sided difference, or zero if both are.
    end = torch.where(has_after[..., None], points.index_select(axis, after), points)
    start = torch.where(has_before[..., None], points.index_select(axis, before), points)
    return end - start


def _length(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
    x, y, z = vector.unbind(-1)
    return (x * x + y * y + z * z).sqrt()[..., None]


def _unit(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Divide by the largest component first, so that tiny scenes do not underflow; zero stays zero."""
    largest = vector.abs().amax(dim=-1, keepdim=True)
    scaled = vector / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = _length(scaled)
    return scaled / torch.where(length > 0, length, torch.ones_like(length))
