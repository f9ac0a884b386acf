"""The three sides, and the software picture: by hand, and against plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laq_model.report.pointcloud_view import BACKGROUND, draw_cloud, half_width, point_size_for, sides_of
from reference import splat_twin

# Cameras in a world whose z is up. Rows: the camera's right, down and forward.
LEVEL = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 3]])
DOWNWARD = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 5]])
UPWARD = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5]])
BACKGROUND_LEVELS = np.round(np.array(BACKGROUND) * 255)


def test_convention_sides_of_a_level_camera():
    front, side, top = sides_of(LEVEL)
    for view, right, up in ((front, "x", "z"), (side, "y", "z"), (top, "x", "y")):
        axes = {"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1]}
        assert view.right.tolist() == axes[right]
        assert view.up.tolist() == axes[up]


def test_convention_the_side_is_seen_from_the_cameras_right_and_the_top_from_above():
    _, side, top = sides_of(LEVEL)
    assert np.cross(side.right, side.up).tolist() == [1, 0, 0]
    assert np.cross(top.right, top.up).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("camera", "heading"), [(DOWNWARD, [0, 1, 0]), (UPWARD, [0, 1, 0])])
def test_convention_a_camera_that_looks_straight_down_or_up_heads_where_its_pictures_edge_points(
    camera, heading
):
    assert sides_of(camera)[2].up.tolist() == heading


def test_convention_a_tilted_camera_keeps_its_heading():
    tilt = math.radians(50)
    cos, sin = math.cos(tilt), math.sin(tilt)
    tilted = torch.tensor([[0, -1.0, 0, 0], [-sin, 0, -cos, 0], [cos, 0, -sin, 0]])  # looks along +x and down
    front, _, top = sides_of(tilted)
    np.testing.assert_allclose(top.up, [1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(top.right, [0, -1, 0], atol=1e-7)
    np.testing.assert_allclose(front.up, [sin, 0, cos], atol=1e-7)


def test_convention_place_of_a_point_in_the_picture():
    picture = draw_cloud(
        torch.tensor([[0.3, 0.0, 0.8]]),
        torch.tensor([[1.0, 0, 0]]),
        sides_of(LEVEL)[0],
        half_width=1.0,
        size_px=4,
        point_size=0.0,
    )
    # column = floor((0.3 + 1) · 2) = 2; row = floor((1 − 0.8) · 2) = 0
    assert picture[0, 2].tolist() == [255, 0, 0]
    assert ((picture == BACKGROUND_LEVELS).all(axis=-1)).sum() == 15


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_hides_the_farther_one_whatever_their_order(order):
    coord = torch.tensor([[0.0, -0.5, 0.0], [0.0, 0.5, 0.0]])[order]  # the camera looks along +y
    color = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[order]
    picture = draw_cloud(coord, color, sides_of(LEVEL)[0], half_width=1.0, size_px=3, point_size=0.0)
    assert picture[1, 1].tolist() == [255, 0, 0]


def test_a_point_on_top_shows_through_nearer_ones():
    coord = torch.tensor([[0.0, -0.5, 0.0], [0.0, 0.5, 0.0], [0.0, 0.7, 0.0]])
    picture = draw_cloud(
        coord,
        torch.eye(3),
        sides_of(LEVEL)[0],
        half_width=1.0,
        size_px=3,
        point_size=0.0,
        on_top=torch.tensor([False, True, True]),
    )
    assert picture[1, 1].tolist() == [0, 255, 0]  # the nearer of the two on top


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.35]), st.sampled_from([7, 16]))
def test_pictures_equal_a_plain_z_buffer(seed, point_size, size_px):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.rand(40, 3, generator=generator) * 2.4 - 1.2  # some lie outside
    color = torch.rand(40, 3, generator=generator)
    for side in sides_of(LEVEL):
        expected = splat_twin.draw_cloud(
            coord,
            color,
            right=side.right,
            up=side.up,
            half_width=1.0,
            size_px=size_px,
            point_size=point_size,
            background=BACKGROUND,
        )
        found = draw_cloud(coord, color, side, half_width=1.0, size_px=size_px, point_size=point_size)
        np.testing.assert_array_equal(found, expected)


def test_one_scale_holds_all_points_from_all_sides():
    coord = torch.tensor([[0.2, 0.1, -0.9], [0.5, -0.3, 0.0]])
    assert half_width(coord, sides_of(LEVEL)) == pytest.approx(1.05 * 0.9, rel=1e-6)
    assert half_width(coord[:0], sides_of(LEVEL)) == 1.0


def test_an_empty_cloud_is_an_empty_picture():
    nothing = torch.zeros(0, 3)
    picture = draw_cloud(nothing, nothing, sides_of(LEVEL)[0], half_width=1.0, size_px=5)
    assert (picture == BACKGROUND_LEVELS).all()


def test_points_are_drawn_so_large_that_surfaces_close_but_clumps_do_not_swell():
    assert point_size_for(4840, half_width=1.0, smallest=0.02) == pytest.approx(2.2 / 4840**0.5)
    assert point_size_for(10**6, half_width=1.0, smallest=0.02) == 0.02
    assert point_size_for(10, half_width=1.0, smallest=0.02) == 0.05
