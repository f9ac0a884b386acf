"""A wall two metres away, seen by a camera at the origin: what is before, in and behind it; what moved."""

from __future__ import annotations

import math

import pytest
import torch

from laq_model.geometry.unproject import unproject_depth
from laq_model.geometry.visibility import seen_through_by_others, sees_past

# Ten pixels a side, focal length 10, the optical axis through pixel (4, 4).
INTRINSICS = torch.tensor([[10.0, 0, 4], [0, 10, 4], [0, 0, 1]])
MARGIN = 0.1


def is_past(
    point: tuple[float, float, float], *, depth: float | torch.Tensor = 2.0, margin_share: float = 0.0
) -> bool:
    image = depth if isinstance(depth, torch.Tensor) else torch.full((10, 10), depth)
    past = sees_past(
        torch.tensor([[point]]),
        depth=image[None],
        intrinsics=INTRINSICS[None],
        cam_from_world=torch.eye(3, 4)[None],
        margin=MARGIN,
        margin_share=margin_share,
    )
    return past.item()


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0, 0, 1.0), True),
        ((0, 0, 1.85), True),
        ((0, 0, 1.95), False),  # nearer than the wall, but within the margin
        ((0, 0, 2.5), False),  # hidden behind it
        ((0, 0, -1.0), False),  # behind the camera
        ((0, 0, 0.0), False),  # in the camera
        ((0.54, 0, 1.0), True),  # u = 9.4: the last column reaches to 9.5
        ((0.56, 0, 1.0), False),
        ((-0.44, 0, 1.0), True),  # u = −0.4: the first column starts at −0.5
        ((-0.46, 0, 1.0), False),
        ((0, 0.56, 1.0), False),
        ((0, -0.46, 1.0), False),
    ],
)
def test_convention_a_view_sees_past_what_is_nearer_than_the_surface_there(point, expected):
    assert is_past(point) == expected


def test_the_margin_grows_with_the_depth():
    assert is_past((0, 0, 1.65), margin_share=0.1)  # 2 − 0.2 − 0.1 = 1.7
    assert not is_past((0, 0, 1.75), margin_share=0.1)


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan, math.inf])
def test_convention_a_pixel_without_depth_says_nothing(depth):
    assert not is_past((0, 0, 1.0), depth=depth)


def test_the_pixel_is_column_then_row_and_its_neighbours_must_agree():
    depth = torch.full((10, 10), 0.5)
    depth[3:6, 6:9] = 2.0  # around row 4, column 7
    assert is_past((0.3, 0.0, 1.0), depth=depth)
    assert not is_past((0.0, 0.3, 1.0), depth=depth)
    depth[3, 6] = 0.5  # one near neighbour is enough for doubt
    assert not is_past((0.3, 0.0, 1.0), depth=depth)


def scene(columns: list[int | None], *, camera_x: list[float]):
    """Views of a wall 2 m away and a box 1 m away, six columns wide from the given one; cameras move in x."""
    depth = torch.full((1, len(columns), 20, 20), 2.0)
    for view, column in enumerate(columns):
        if column is not None:
            depth[0, view, 6:14, column : column + 6] = 1.0
    cameras = torch.eye(3, 4).repeat(1, len(columns), 1, 1)
    cameras[0, :, 0, 3] = -torch.tensor(camera_x)
    intrinsics = torch.tensor([[20.0, 0, 9.5], [0, 20, 9.5], [0, 0, 1]]).expand(1, len(columns), 3, 3)
    return {"depth": depth, "intrinsics": intrinsics, "cam_from_world": cameras}


def seen_through(**views) -> torch.Tensor:
    point_map = unproject_depth(views["depth"], views["intrinsics"], views["cam_from_world"])
    return seen_through_by_others(point_map, **views, margin=MARGIN, margin_share=0.0)[0]


def test_a_box_that_moved_is_seen_through_where_it_was_and_where_it_will_be():
    before, after = seen_through(**scene([2, 11], camera_x=[0.0, 0.0]))
    box_before, box_after = torch.zeros(20, 20, dtype=torch.bool), torch.zeros(20, 20, dtype=torch.bool)
    box_before[6:14, 2:8], box_after[6:14, 11:17] = True, True
    assert torch.equal(before, box_before)
    assert torch.equal(after, box_after)


def test_a_still_box_before_a_moving_camera_is_never_seen_through():
    # A metre to the right at a depth of 1: the box moves by 0.1 * 20 = 2 columns, the wall by 1.
    assert not seen_through(**scene([8, 6], camera_x=[0.0, 0.1])).any()


def test_a_view_alone_is_seen_through_by_nobody_and_a_third_view_counts():
    assert not seen_through(**scene([4], camera_x=[0.0])).any()
    three = seen_through(**scene([4, 4, None], camera_x=[0.0, 0.0, 0.0]))
    assert three[:2, 8:12, 5:9].all()
    assert not three[2].any()


def test_scenes_keep_apart():
    first, second = scene([2, 11], camera_x=[0.0, 0.0]), scene([8, 8], camera_x=[0.0, 0.1])
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    point_map = unproject_depth(both["depth"], both["intrinsics"], both["cam_from_world"])
    together = seen_through_by_others(point_map, **both, margin=MARGIN, margin_share=0.0)
    assert torch.equal(together[0], seen_through(**first))
    assert torch.equal(together[1], seen_through(**second))
