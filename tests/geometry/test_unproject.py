"""Depth to points and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close

from laq_model.errors import GeometryError
from laq_model.geometry.cameras import matrix_from_quat_xyzw
from laq_model.geometry.unproject import project_points, unproject_depth

GOLDEN = load_file(str(Path(__file__).parents[1] / "golden" / "vggt_golden_units.safetensors"))


def test_points_match_golden():
    points = unproject_depth(
        GOLDEN["geo_depth"].squeeze(-1), GOLDEN["geo_intrinsics"][:1], GOLDEN["geo_extrinsics"][:1]
    )
    # Points reach 5; the original rounds at other places.
    assert_close(points, GOLDEN["geo_world_points"], rtol=0.0, atol=2e-6)


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_projecting_unprojected_pixels_is_the_identity(seed):
    generator = torch.Generator().manual_seed(seed)
    rotation = matrix_from_quat_xyzw(torch.randn(2, 3, 4, generator=generator, dtype=torch.float64))
    translation = torch.randn(2, 3, 3, 1, generator=generator, dtype=torch.float64)
    cam_from_world = torch.cat([rotation, translation], dim=-1)
    intrinsics = torch.tensor([[50.0, 1.5, 3.2], [0, 40, 1.1], [0, 0, 1]], dtype=torch.float64).expand(
        2, 3, 3, 3
    )
    depth = 0.5 + torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    points = unproject_depth(depth, intrinsics, cam_from_world).flatten(2, 3)
    pixel, seen_depth = project_points(points, intrinsics, cam_from_world)
    v, u = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    expected = torch.stack([u, v], dim=-1).reshape(20, 2).double().expand(2, 3, 20, 2)
    assert_close(pixel, expected)
    assert_close(seen_depth, depth.flatten(2))


def test_skew_shifts_a_point_sideways():
    intrinsics = torch.tensor([[10.0, 5.0, 0], [0, 10, 0], [0, 0, 1]])
    pixel, _ = project_points(torch.tensor([[0.0, 1.0, 1.0]]), intrinsics, torch.eye(3, 4))
    assert_close(pixel, torch.tensor([[5.0, 10.0]]))


def test_a_point_behind_the_camera_has_negative_depth():
    _, depth = project_points(torch.tensor([[0.0, 0.0, -2.0]]), torch.eye(3), torch.eye(3, 4))
    assert depth.item() == -2.0


@pytest.mark.parametrize("focal", [0.0, -3.0])
def test_focal_length_that_is_not_positive_is_refused(focal):
    intrinsics = torch.tensor([[10.0, 0, 1], [0, focal, 1], [0, 0, 1]])
    with pytest.raises(GeometryError, match=rf"must be positive, got {focal:g} pixels"):
        unproject_depth(torch.ones(2, 2), intrinsics, torch.eye(3, 4))


def test_points_do_not_depend_on_batch_neighbours():
    generator = torch.Generator().manual_seed(2)
    depth = torch.rand(5, 7, 9, generator=generator)
    rotation = matrix_from_quat_xyzw(torch.randn(5, 4, generator=generator))
    cameras = torch.cat([rotation, torch.randn(5, 3, 1, generator=generator)], dim=-1)
    intrinsics = torch.tensor([[9.0, 0, 4], [0, 8, 3], [0, 0, 1]]).expand(5, 3, 3)
    together = unproject_depth(depth, intrinsics, cameras)
    alone = unproject_depth(depth[3], intrinsics[3], cameras[3])
    assert torch.equal(together[3], alone)
