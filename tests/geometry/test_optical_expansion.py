"""A textured board whose picture is worked out by hand; depth never tells that it came nearer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from laq_model.geometry.optical_expansion import MOST_PIECES, displacement_by_expansion

SIZE_PX, FOCAL_PX = 64, 60.0
PARTS = 8  # of a pixel along each axis
WALL_M, BOARD_M, HALF_M = 2.0, 1.0, 0.12
INTRINSICS = torch.tensor([[FOCAL_PX, 0, 31.5], [0, FOCAL_PX, 31.5], [0, 0, 1]])


def ray(axis: int, *, parts: int = 1) -> torch.Tensor:
    """x / z or y / z at the middle of every pixel, or of every part of it."""
    along = ((torch.arange(SIZE_PX * parts) + 0.5) / parts - SIZE_PX / 2) / FOCAL_PX
    return (along if axis == 0 else along[:, None]).expand(len(along), len(along))


def picture(centre_m, depth_m: float, *, wall_contrast: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour of every pixel, the mean of its parts, and where the board is; centre in the camera's axes."""
    x, y = (ray(axis, parts=PARTS) * depth_m - centre_m[axis] for axis in (0, 1))
    is_board = ((x.abs() < HALF_M) & (y.abs() < HALF_M)).float()
    texture = torch.stack([0.5 + 0.4 * torch.sin(30 * x + 3), 0.5 + 0.4 * torch.sin(37 * y + 1), 0.5 + x])
    wall = 0.1 + wall_contrast * torch.sin(90 * ray(0, parts=PARTS)) * torch.sin(80 * ray(1, parts=PARTS))
    color = F.avg_pool2d(wall + is_board * (texture - wall), PARTS)
    return color.movedim(0, -1), F.avg_pool2d(is_board[None], PARTS)[0] > 0.5


def scene(
    motion_m, *, camera_m=(0.0, 0.0, 0.0), wall_contrast=0.0
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What ``displacement_by_expansion`` takes, its displacement without the part along the optical axis."""
    motion, camera = torch.tensor(motion_m), torch.tensor(camera_m)
    first, is_first = picture((0.0, 0.0), BOARD_M, wall_contrast=wall_contrast)
    at = torch.tensor([0.0, 0.0, BOARD_M]) + motion - camera
    second, is_second = picture(at[:2], float(at[2]), wall_contrast=wall_contrast)
    # Depth as a network that misses the change sees it: the board stays one metre away from the start.
    depth = torch.stack([torch.where(is_board, BOARD_M, WALL_M) for is_board in (is_first, is_second)])
    point_map = torch.stack([ray(0) * depth, ray(1) * depth, depth], -1)
    point_map[1] += camera
    across = motion * torch.tensor([1.0, 1.0, 0.0])
    is_moved = torch.stack([is_first & ~is_second, is_second & ~is_first])
    cam_from_world = torch.eye(3, 4).repeat(2, 1, 1)
    cam_from_world[1, :, 3] = -camera
    inputs = {
        "point_map_m": point_map,
        "color": torch.stack([first, second]),
        "has_changed": ((first - second).abs().amax(-1) > 0.05).expand(2, -1, -1),
        "intrinsics": INTRINSICS.expand(2, 3, 3),
        "cam_from_world": cam_from_world,
    }
    return {name: value[None] for name, value in inputs.items()}, (is_moved[..., None] * across)[None]


@pytest.mark.parametrize("away_m", [-0.1, -0.05, 0.05, 0.1])
@pytest.mark.parametrize("camera_m", [(0.0, 0.0, 0.0), (0.04, -0.03, 0.0)])
def test_the_growth_of_the_picture_tells_the_change_of_depth(away_m: float, camera_m):
    views, across = scene((0.1, 0.05, away_m), camera_m=camera_m)
    found = displacement_by_expansion(across, **views, reach_m=0.1)
    is_moved = (across != 0).any(-1)
    assert torch.equal((found != 0).any(-1), is_moved)
    shift = found[is_moved]
    assert 1 <= len(shift.unique(dim=0)) <= MOST_PIECES
    assert float(shift[:, 2].median()) == pytest.approx(away_m, rel=0.35)
    # What went across stays where the picture shows it, now at the new depth.
    across_m = shift[:, :2].median(0).values
    assert_close(across_m, torch.tensor([0.1, 0.05]) * (1 + away_m), rtol=0.15, atol=0.005)


def test_the_ends_of_a_body_that_bends_each_have_their_growth():
    """Two boards, one over the other, taken for one body: both go right, the lower one comes nearer."""
    colors, boards = [], []
    for right_m, nearer_m in ((0.0, 0.0), (0.1, 0.1)):
        upper, is_upper = picture((right_m, -0.14), BOARD_M, wall_contrast=0.0)
        lower, is_lower = picture((right_m, 0.14), BOARD_M - nearer_m, wall_contrast=0.0)
        colors.append(torch.where(is_lower[..., None], lower, upper))
        boards.append(is_upper | is_lower)
    views, _ = scene((0.1, 0.0, 0.0))
    depth = torch.where(torch.stack(boards), BOARD_M, WALL_M)
    views["point_map_m"] = torch.stack([ray(0) * depth, ray(1) * depth, depth], -1)[None]
    views["color"] = torch.stack(colors)[None]
    views["has_changed"] = ((colors[0] - colors[1]).abs().amax(-1) > 0.05).expand(1, 2, -1, -1)
    is_moved = torch.stack([boards[0] & ~boards[1], boards[1] & ~boards[0]])
    across = (is_moved[..., None] * torch.tensor([0.1, 0.0, 0.0]))[None]
    away_m = displacement_by_expansion(across, **views, reach_m=0.05)[0, ..., 2]
    is_upper_row = (torch.arange(SIZE_PX) < SIZE_PX // 2)[:, None]
    assert abs(float(away_m[is_moved & is_upper_row].median())) < 0.025
    assert float(away_m[is_moved & ~is_upper_row].median()) == pytest.approx(-0.1, abs=0.03)


@pytest.mark.parametrize("error_m", [(0.05, 0.0, 0.0), (0.0, -0.05, 0.0), (-0.05, 0.05, 0.0)])
def test_where_the_picture_is_found_mends_a_shift_that_the_search_in_space_missed(error_m):
    views, across = scene((0.1, 0.05, -0.05))
    is_moved = (across != 0).any(-1)
    missed = across + is_moved[..., None] * torch.tensor(error_m)
    found = displacement_by_expansion(missed, **views, reach_m=0.1)[is_moved][0]
    # Three or four pixels off at the start, one and a half at most at the end.
    assert float((found - torch.tensor([0.1, 0.05, -0.05])).norm()) < 0.025


def test_what_stands_still_about_a_body_does_not_hold_its_growth_back():
    views, across = scene((0.04, 0.02, -0.05), wall_contrast=0.05)
    is_moved = (across != 0).any(-1)

    def away_m(has_changed: torch.Tensor) -> float:  # with the whole wall within reach
        found = displacement_by_expansion(across, **(views | {"has_changed": has_changed}), reach_m=3.0)
        return float(found[is_moved][0, 2])

    assert away_m(views["has_changed"]) == pytest.approx(-0.05, abs=0.025)
    assert abs(away_m(torch.ones_like(views["has_changed"]))) < 0.01


def test_a_body_that_keeps_its_depth_keeps_its_displacement():
    views, across = scene((0.1, 0.05, 0.0))
    assert_close(displacement_by_expansion(across, **views, reach_m=0.1), across, rtol=0, atol=0.01)


def test_nothing_moves_where_nothing_moved():
    views, across = scene((0.1, 0.05, 0.1))
    nothing = torch.zeros_like(across)
    assert torch.equal(displacement_by_expansion(nothing, **views, reach_m=0.1), nothing)


def test_a_body_of_few_pixels_keeps_its_displacement():
    views, across = scene((0.1, 0.05, 0.1))
    few = torch.zeros_like(across)
    row, column = (across[0, 0] != 0).any(-1).nonzero()[0].tolist()
    few[0, 0, row, column] = across[0, 0, row, column]
    assert torch.equal(displacement_by_expansion(few, **views, reach_m=0.001), few)


def test_a_body_that_one_frame_does_not_show_keeps_its_displacement():
    views, across = scene((0.1, 0.05, 0.1))
    unseen = torch.zeros_like(across)
    unseen[0, 1][(across[0, 1] != 0).any(-1)] = torch.tensor([5.0, 0.0, 0.0])
    assert torch.equal(displacement_by_expansion(unseen, **views, reach_m=0.1), unseen)


def test_scenes_and_bodies_do_not_influence_one_another():
    one, of_one = scene((0.1, 0.05, 0.1))
    two, of_two = scene((-0.1, 0.05, -0.05))
    both = {name: torch.cat([one[name], two[name]]) for name in one}
    together = displacement_by_expansion(torch.cat([of_one, of_two]), **both, reach_m=0.1)
    assert torch.equal(together[:1], displacement_by_expansion(of_one, **one, reach_m=0.1))
    assert torch.equal(together[1:], displacement_by_expansion(of_two, **two, reach_m=0.1))
