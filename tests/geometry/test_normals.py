"""Normals of planes and spheres, at borders, beside holes, and in turned scenes."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from laq_model.geometry.cameras import matrix_from_quat_xyzw, rotate
from laq_model.geometry.normals import normals_from_point_map
from laq_model.geometry.unproject import unproject_depth

INTRINSICS = torch.tensor([[8.0, 0, 3.5], [0, 8, 3.5], [0, 0, 1]], dtype=torch.float64)
AT_ORIGIN = torch.zeros(3, dtype=torch.float64)


def plane_map(normal: tuple[float, float, float], distance: float = 2.0) -> torch.Tensor:
    """Points of the plane n · x = −distance, as a camera at the origin sees them."""
    rays = unproject_depth(
        torch.ones(8, 8, dtype=torch.float64), INTRINSICS, torch.eye(3, 4, dtype=torch.float64)
    )
    n = torch.tensor(normal, dtype=torch.float64)
    return rays * (-distance / (rays @ n))[..., None]


def test_every_pixel_of_a_tilted_plane_has_its_normal():
    n = (0.6, 0.0, -0.8)
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    normals = normals_from_point_map(plane_map(n), is_valid=everywhere, camera_centre=AT_ORIGIN)
    assert_close(normals, torch.tensor(n, dtype=torch.float64).expand(8, 8, 3))


def test_normals_turn_toward_a_camera_on_the_other_side():
    behind = torch.tensor([0.0, 0.0, 100.0], dtype=torch.float64)
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    normals = normals_from_point_map(plane_map((0.6, 0.0, -0.8)), is_valid=everywhere, camera_centre=behind)
    assert_close(normals, torch.tensor([-0.6, 0.0, 0.8], dtype=torch.float64).expand(8, 8, 3))


def test_invalid_pixels_are_zero_and_change_nothing_beside_them():
    points = plane_map((0.0, -0.6, -0.8))
    is_valid = torch.ones(8, 8, dtype=torch.bool)
    is_valid[2, 3] = is_valid[5, 5] = False
    points[~is_valid] = math.nan
    normals = normals_from_point_map(points, is_valid=is_valid, camera_centre=AT_ORIGIN)
    expected = torch.tensor([0.0, -0.6, -0.8], dtype=torch.float64).expand(8, 8, 3) * is_valid[..., None]
    assert_close(normals, expected)


def test_a_pixel_without_neighbours_along_one_axis_has_no_normal():
    points = plane_map((0.0, 0.0, -1.0))
    is_valid = torch.zeros(8, 8, dtype=torch.bool)
    is_valid[4, 2:6] = True
    normals = normals_from_point_map(points, is_valid=is_valid, camera_centre=AT_ORIGIN)
    assert_close(normals, torch.zeros_like(points), rtol=0.0, atol=0.0)


def test_tiny_scenes_have_unit_normals_in_float32():
    points = (plane_map((0.6, 0.0, -0.8)) * 1e-15).float()
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    normals = normals_from_point_map(points, is_valid=everywhere, camera_centre=torch.zeros(3))
    assert_close(normals, torch.tensor([0.6, 0.0, -0.8]).expand(8, 8, 3), rtol=0.0, atol=1e-5)


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=10)
def test_normals_turn_with_the_scene(seed):
    generator = torch.Generator().manual_seed(seed)
    depth = 1 + 0.1 * torch.rand(8, 8, generator=generator, dtype=torch.float64)
    points = unproject_depth(depth, INTRINSICS, torch.eye(3, 4, dtype=torch.float64))
    rotation = matrix_from_quat_xyzw(torch.randn(4, generator=generator, dtype=torch.float64))
    shift = torch.randn(3, generator=generator, dtype=torch.float64)
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    before = normals_from_point_map(points, is_valid=everywhere, camera_centre=AT_ORIGIN)
    after = normals_from_point_map(rotate(rotation, points) + shift, is_valid=everywhere, camera_centre=shift)
    assert_close(after, rotate(rotation, before))
    assert_close(after.norm(dim=-1), torch.ones(8, 8, dtype=torch.float64))
