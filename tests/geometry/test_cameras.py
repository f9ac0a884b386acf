"""Cameras against golden values, hand calculations and their own inverses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close

from laq_model.errors import GeometryError
from laq_model.geometry.cameras import (
    camera_centre,
    change_world,
    crop_and_resize_intrinsics,
    decode_pose_encoding,
    encode_pose,
    matrix_from_quat_xyzw,
    quat_xyzw_from_matrix,
    relative_to_first,
    rotate,
)
from laq_model.geometry.unproject import project_points

GOLDEN = load_file(str(Path(__file__).parents[1] / "golden" / "vggt_golden_units.safetensors"))
EXACT = {"rtol": 0.0, "atol": 0.0}
ROUNDING = {"rtol": 1e-6, "atol": 1e-6}  # some float32 operations on numbers of size one


def random_cameras(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotation = matrix_from_quat_xyzw(torch.randn(*shape, 4, generator=generator, dtype=torch.float64))
    translation = torch.randn(*shape, 3, 1, generator=generator, dtype=torch.float64)
    return torch.cat([rotation, translation], dim=-1)


def test_quaternion_to_matrix_matches_golden():
    assert_close(matrix_from_quat_xyzw(GOLDEN["rot_quat_in"]), GOLDEN["rot_mat"], **ROUNDING)


def test_matrix_to_quaternion_matches_golden():
    assert_close(quat_xyzw_from_matrix(GOLDEN["rot_mat"]), GOLDEN["rot_quat_back"], **ROUNDING)


def test_decoded_poses_match_golden():
    cam_from_world, intrinsics = decode_pose_encoding(GOLDEN["geo_pose_enc"], height=70, width=56)
    assert_close(cam_from_world, GOLDEN["geo_extrinsics"], **ROUNDING)
    assert_close(intrinsics, GOLDEN["geo_intrinsics"], rtol=1e-6, atol=0.0)


def test_encoded_poses_match_golden():
    back = encode_pose(GOLDEN["geo_extrinsics"], GOLDEN["geo_intrinsics"], height=70, width=56)
    assert_close(back, GOLDEN["geo_pose_enc_back"], **ROUNDING)


@pytest.mark.parametrize(
    ("diagonal", "expected"),
    [
        ((1, -1, -1), (1, 0, 0, 0)),
        ((-1, 1, -1), (0, 1, 0, 0)),
        ((-1, -1, 1), (0, 0, 1, 0)),
        ((1, 1, 1), (0, 0, 0, 1)),
    ],
)
def test_convention_quaternions_have_a_positive_scalar_or_largest_component(diagonal, expected):
    rotation = torch.diag(torch.tensor(diagonal, dtype=torch.float32))
    assert_close(quat_xyzw_from_matrix(rotation), torch.tensor(expected, dtype=torch.float32), **EXACT)


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_matrix_to_quaternion_inverts_quaternion_to_matrix(seed):
    quat = torch.randn(7, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    quat = quat / quat.norm(dim=-1, keepdim=True)
    quat = torch.where(quat[:, 3:] < 0, -quat, quat)
    assert_close(quat_xyzw_from_matrix(matrix_from_quat_xyzw(quat)), quat)


def test_zero_quaternion_is_refused():
    with pytest.raises(GeometryError, match="quaternion is zero"):
        matrix_from_quat_xyzw(torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("angle", "focal"), [(0.0, 28 / math.tan(0.005)), (math.pi, 28 / math.tan(math.pi / 2 - 0.005))]
)
def test_convention_impossible_field_of_view_gives_the_nearest_possible_focal_length(angle, focal):
    pose = torch.tensor([0, 0, 0, 0, 0, 0, 1, angle, angle])
    _, intrinsics = decode_pose_encoding(pose, height=56, width=56)
    assert_close(intrinsics[0, 0], torch.tensor(focal, dtype=torch.float32))
    assert_close(intrinsics[1, 1], torch.tensor(focal, dtype=torch.float32))


def test_zero_field_of_view_has_a_finite_gradient():
    pose = torch.tensor([0.1, 0, 0, 0, 0, 0, 1, 0.0, 0.8], requires_grad=True)
    cam_from_world, intrinsics = decode_pose_encoding(pose, height=56, width=56)
    (cam_from_world.sum() + intrinsics.sum()).backward()
    assert pose.grad is not None
    assert torch.isfinite(pose.grad).all()
    assert pose.grad[8] != 0


def test_decoding_does_not_depend_on_batch_neighbours():
    poses = torch.randn(37, 9, generator=torch.Generator().manual_seed(1))
    poses[:, 7:] = poses[:, 7:].abs() + 0.2
    together = decode_pose_encoding(poses, height=56, width=70)
    for number in (0, 5, 36):
        alone = decode_pose_encoding(poses[number], height=56, width=70)
        assert_close((together[0][number], together[1][number]), alone, **EXACT)


def test_camera_centre_is_where_all_coordinates_vanish():
    cam_from_world = random_cameras(6)
    centre = camera_centre(cam_from_world)
    in_camera = rotate(cam_from_world[..., :3], centre) + cam_from_world[..., 3]
    assert_close(in_camera, torch.zeros(6, 3, dtype=torch.float64))


def test_convention_first_camera_is_exactly_the_world():
    cameras = random_cameras(3, 4).float()
    cameras[1, 2] = cameras[1, 0]
    relative = relative_to_first(cameras)
    identity = torch.eye(3, 4)
    assert_close(relative[:, 0], identity.expand(3, 3, 4), **EXACT)
    assert_close(relative[1, 2], identity, **EXACT)


def test_relative_cameras_see_the_same_points():
    cameras = random_cameras(2, 3)
    points = torch.randn(2, 3, 5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def seen(cam_from_world, world_points):
        return rotate(cam_from_world[..., None, :, :3], world_points) + cam_from_world[..., None, :, 3]

    in_first = seen(cameras[:, :1], points)
    assert_close(seen(relative_to_first(cameras), in_first), seen(cameras, points))


@given(st.integers(0, 10_000), st.floats(0.2, 5.0))
@settings(deadline=None, derandomize=True, max_examples=10)
def test_changing_the_world_keeps_pixels_and_scales_depth(seed, factor):
    cameras = random_cameras(4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64)
    origin = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    rotation = random_cameras(4, seed=seed + 1)[..., :3]
    intrinsics = torch.tensor([[50.0, 0, 30], [0, 60, 20], [0, 0, 1]], dtype=torch.float64).expand(4, 3, 3)
    scale = torch.full((4,), factor, dtype=torch.float64)
    moved = change_world(cameras, rotation=rotation, origin=origin, scale=scale)
    moved_points = scale[:, None, None] * rotate(rotation[:, None], points - origin[:, None])
    pixel, depth = project_points(points, intrinsics, cameras)
    moved_pixel, moved_depth = project_points(moved_points, intrinsics, moved)
    assert_close(moved_pixel, pixel)
    assert_close(moved_depth, factor * depth)


def test_cropping_and_resizing_moves_a_pixel_as_the_image_does():
    intrinsics = torch.tensor([[100.0, 0, 40], [0, 120, 30], [0, 0, 1]])
    changed = crop_and_resize_intrinsics(intrinsics, crop_left_px=10, crop_top_px=4, scale_x=0.5, scale_y=2.0)
    # (40 − 10 + 0.5) · 0.5 − 0.5 = 14.75 and (30 − 4 + 0.5) · 2 − 0.5 = 52.5
    assert_close(changed, torch.tensor([[50.0, 0, 14.75], [0, 240, 52.5], [0, 0, 1]]), **EXACT)
    point = torch.tensor([[0.3, -0.2, 2.0]])
    before, _ = project_points(point, intrinsics, torch.eye(3, 4))
    after, _ = project_points(point, changed, torch.eye(3, 4))
    expected = (before - torch.tensor([10.0, 4.0]) + 0.5) * torch.tensor([0.5, 2.0]) - 0.5
    assert_close(after, expected)
