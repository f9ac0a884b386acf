"""The lines of docs/conventions.md about cameras, each pinned by numbers worked out by hand."""

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from laq_model.geometry.cameras import (
    camera_centre,
    crop_and_resize_intrinsics,
    decode_pose_encoding,
    matrix_from_quat_xyzw,
)
from laq_model.geometry.normals import normals_from_point_map
from laq_model.geometry.unproject import project_points, unproject_depth

PINHOLE = torch.tensor([[100.0, 0, 50], [0, 200, 30], [0, 0, 1]])
AT_ORIGIN = torch.eye(3, 4)


def test_convention_camera_axes_are_x_right_y_down_z_forward():
    right, below = torch.tensor([[1.0, 0, 4]]), torch.tensor([[0.0, 1, 4]])
    assert_close(project_points(right, PINHOLE, AT_ORIGIN)[0], torch.tensor([[75.0, 30.0]]))
    assert_close(project_points(below, PINHOLE, AT_ORIGIN)[0], torch.tensor([[50.0, 80.0]]))
    assert project_points(right, PINHOLE, AT_ORIGIN)[1].item() == 4.0


def test_convention_extrinsics_are_camera_from_world():
    # A camera three units to the right of the origin: a world point at x = 3 is straight ahead.
    cam_from_world = torch.tensor([[1.0, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert_close(camera_centre(cam_from_world), torch.tensor([3.0, 0, 0]))
    pixel, depth = project_points(torch.tensor([[3.0, 0, 5]]), PINHOLE, cam_from_world)
    assert_close(pixel, torch.tensor([[50.0, 30.0]]))
    assert depth.item() == 5.0


def test_convention_a_pixel_is_its_integer_column_and_row():
    intrinsics = torch.tensor([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]])
    points = unproject_depth(torch.full((2, 3), 4.0), intrinsics, AT_ORIGIN)
    assert_close(points[0, 1], torch.tensor([0.0, 0, 4]))  # row 0, column 1 is the principal point
    assert_close(points[1, 2], torch.tensor([2.0, 2, 4]))  # (2 − 1) · 4 / 2 right, (1 − 0) · 4 / 2 down


def test_convention_depth_is_along_the_optical_axis_not_the_ray():
    intrinsics = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    corner = unproject_depth(torch.full((1, 2), 3.0), intrinsics, AT_ORIGIN)[0, 1]
    assert_close(corner, torch.tensor([3.0, 0, 3]))


def test_convention_quaternions_are_scalar_last():
    quarter_turn_about_z = torch.tensor([0, 0, math.sqrt(0.5), math.sqrt(0.5)])
    expected = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert_close(matrix_from_quat_xyzw(quarter_turn_about_z), expected)
    assert_close(matrix_from_quat_xyzw(torch.tensor([0.0, 0, 0, 1])), torch.eye(3))


def test_convention_pose_encoding_is_translation_quaternion_vertical_then_horizontal_angle():
    vertical, horizontal = math.pi / 2, 2 * math.atan(0.5)
    pose = torch.tensor([1.0, 2, 3, 0, 0, 0, 2, vertical, horizontal])
    cam_from_world, intrinsics = decode_pose_encoding(pose, height=40, width=60)
    assert_close(cam_from_world, torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]]))
    # f_y = 20 / tan 45° = 20, f_x = 30 / 0.5 = 60
    assert_close(intrinsics, torch.tensor([[60.0, 0, 30], [0, 20, 20], [0, 0, 1]]))


def test_convention_resizing_keeps_the_image_border_not_its_first_pixel():
    intrinsics = torch.tensor([[10.0, 0, -0.5], [0, 10, 3.5], [0, 0, 1]])
    doubled = crop_and_resize_intrinsics(intrinsics, crop_left_px=0, crop_top_px=0, scale_x=2.0, scale_y=2.0)
    assert_close(doubled[:2, 2], torch.tensor([-0.5, 7.5]))


def test_convention_normals_point_toward_the_camera():
    points = unproject_depth(torch.full((3, 3), 2.0), PINHOLE, AT_ORIGIN)
    normals = normals_from_point_map(
        points, is_valid=torch.ones(3, 3, dtype=torch.bool), camera_centre=torch.zeros(3)
    )
    assert_close(normals, torch.tensor([0.0, 0, -1]).expand(3, 3, 3))
