"""Blocks of coloured points that move by known shifts before a still wall."""

import torch

from laq_model.pointcloud.displacement import displacement_of_moved

SIDE = 12  # points along each axis of a block; 1 cm apart
HEIGHT, WIDTH = 48, 96
SHIFT = torch.tensor([0.06, -0.035, 0.02])


def block(seed, centre):
    """Points of a block and their colours, which vary over some centimetres as a painted thing's do."""
    axis = (torch.arange(SIDE) - SIDE / 2) * 0.01
    point = torch.cartesian_prod(axis, axis, axis)
    wave = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)) * 30
    return point + torch.tensor(centre), (torch.sin(point @ wave) + 1) / 2


def scene(shifts, *, noise=0.0):
    """Point maps, colours and masks of two frames of blocks, one for each shift, and a grey wall."""
    count = HEIGHT * WIDTH
    point, color = torch.zeros(2, count, 3), torch.full((2, count, 3), 0.5)
    is_moved = torch.zeros(2, count, dtype=torch.bool)
    for number, shift in enumerate(shifts):
        where, paint = block(number, [0.35 * number, 0.0, 0.1])
        rows = slice(number * len(where), (number + 1) * len(where))
        for frame in (0, 1):
            point[frame, rows] = where + frame * shift
            color[frame, rows] = paint
        low, high = where.amin(0) - 0.005, where.amax(0) + 0.005
        shifted_back = where - shift
        is_moved[0, rows] = ((shifted_back < low) | (shifted_back > high)).any(-1)  # no matter there later
        is_moved[1, rows] = ((where + shift < low) | (where + shift > high)).any(-1)  # none there before
    start = len(shifts) * SIDE**3
    wall = torch.rand(count - start, 2, generator=torch.Generator().manual_seed(9)) * 1.2 - 0.6
    point[:, start:] = torch.stack([wall[:, 0], torch.full((len(wall),), 0.4), wall[:, 1]], dim=-1)
    point[1] += noise * torch.randn(count, 3, generator=torch.Generator().manual_seed(8))
    shape = (1, 2, HEIGHT, WIDTH)
    return {
        "point_map_m": point.view(*shape, 3),
        "color": color.view(*shape, 3),
        "is_kept": torch.ones(shape, dtype=torch.bool),
        "is_moved": is_moved.view(shape),
    }


def displacement(scenes, *, num_bodies=1, max_shift_m=0.15):
    return displacement_of_moved(**scenes, cell_m=0.02, max_shift_m=max_shift_m, num_bodies=num_bodies)


def test_a_block_that_hides_most_of_its_own_motion_tells_its_shift():
    views = scene([SHIFT], noise=0.003)
    found = displacement(views)
    moved = found[views["is_moved"]]
    has_shift = (moved != 0).any(-1)
    assert has_shift.float().mean() > 0.8
    torch.testing.assert_close(moved[has_shift].mean(0), SHIFT, atol=0.005, rtol=0)


def test_what_was_did_not_move_has_no_displacement():
    views = scene([SHIFT])
    assert not displacement(views)[~views["is_moved"]].any()


def test_equal_frames_have_none():
    assert not displacement(scene([torch.zeros(3)])).any()


def test_two_bodies_keep_their_own_shifts():
    other = torch.tensor([0.0, 0.05, -0.04])
    views = scene([SHIFT, other])
    found = displacement(views, num_bodies=2).view(2, -1, 3)
    for number, shift in enumerate((SHIFT, other)):
        rows = slice(number * SIDE**3, (number + 1) * SIDE**3)
        moved = found[:, rows][views["is_moved"].view(2, -1)[:, rows]]
        torch.testing.assert_close(moved.median(0).values, shift, atol=0.01, rtol=0)


def test_the_way_back_is_the_opposite():
    views = scene([SHIFT])
    there = displacement(views)
    back = displacement({name: value.flip(1) for name, value in views.items()}).flip(1)
    both = (there != 0).any(-1) & (back != 0).any(-1)
    assert both.float().sum() > 100
    torch.testing.assert_close(there[both], -back[both], atol=0.006, rtol=0)


def test_a_longer_way_than_asked_for_is_not_invented():
    views = scene([torch.tensor([0.3, 0.0, 0.0])])
    found = displacement(views, max_shift_m=0.05)
    assert found.norm(dim=-1).max() < 0.09  # no farther than the search, and its last step, go
    assert (found[views["is_moved"]] != 0).any(-1).float().mean() < 0.3


def test_the_radius_is_that_of_a_ball():
    diagonal = scene([torch.full((3,), 0.09)])  # 15.6 cm: 9 cm along each axis
    assert (displacement(diagonal, max_shift_m=0.16).norm(dim=-1) > 0.15).sum() > 100
    assert not (displacement(diagonal, max_shift_m=0.1).norm(dim=-1) > 0.15).any()


def test_too_few_points_tell_nothing():
    views = scene([SHIFT])
    moved = views["is_moved"].flatten().nonzero().squeeze(1)
    for count, is_enough in ((7, False), (8, True)):
        few = torch.zeros(views["is_moved"].numel(), dtype=torch.bool)
        few[moved[:: len(moved) // 8][:count]] = True
        found = displacement(views | {"is_moved": few.view_as(views["is_moved"])}, num_bodies=2)
        assert found.any() == is_enough


def test_a_scene_without_a_body_leaves_the_other_scene_its_own():
    still, moving = scene([torch.zeros(3)]), scene([SHIFT])
    both = displacement({name: torch.cat([still[name], moving[name]]) for name in still}, num_bodies=2)
    assert not both[0].any()
    torch.testing.assert_close(both[1:], displacement(moving, num_bodies=2), atol=1e-5, rtol=0)


def test_scenes_do_not_influence_one_another():
    one, two = scene([SHIFT]), scene([torch.tensor([-0.03, 0.0, 0.06])])
    both = displacement({name: torch.cat([one[name], two[name]]) for name in one})
    torch.testing.assert_close(both, torch.cat([displacement(one), displacement(two)]), atol=1e-5, rtol=0)


def test_pixels_that_are_no_points_neither_move_nor_count():
    views = scene([SHIFT])
    views["is_kept"] = views["is_kept"] & ~views["is_moved"]
    assert not displacement(views).any()
