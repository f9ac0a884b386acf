"""What another frame shows in a point's place."""

import torch

from laq_model.geometry.recoloring import color_change
from laq_model.geometry.unproject import unproject_depth

HEIGHT, WIDTH = 24, 32
INTRINSICS = torch.tensor([[30.0, 0.0, 15.5], [0.0, 30.0, 11.5], [0.0, 0.0, 1.0]])


def wall(shift_m: float, *, painted: slice = slice(0, 0)) -> dict[str, torch.Tensor]:
    """A striped wall 2 m away; the second camera stands ``shift_m`` to the right; columns may be painted."""
    pose = torch.eye(4)[:3].repeat(1, 2, 1, 1)
    pose[0, 1, 0, 3] = -shift_m
    intrinsics = INTRINSICS.repeat(1, 2, 1, 1)
    point = unproject_depth(torch.full((1, 2, HEIGHT, WIDTH), 2.0), intrinsics, pose)
    stripes = (point[..., :1] * 6).sin() * 0.4 + 0.5
    color = stripes.expand(-1, -1, -1, -1, 3).clone()
    color[:, 1, :, painted] = 0.0
    return {"point_map": point, "color": color, "intrinsics": intrinsics, "cam_from_world": pose}


def test_a_still_wall_keeps_its_colours_for_a_camera_that_moves():
    change = color_change(**wall(4 * 2 / 30))  # the picture moves by four pixels
    assert change[:, 0, :, 6:].max() < 1e-3
    assert change[:, 1, :, :-6].max() < 1e-3


def test_what_was_repainted_differs_in_both_frames():
    change = color_change(**wall(4 * 2 / 30, painted=slice(10, 14)))
    assert change[0, 1, :, 11:13].min() > 0.1
    assert change[0, 0, :, 15:17].min() > 0.1  # four pixels to the right in the first picture
    assert change[0, 0, :, 20:].max() < 1e-3


def test_points_behind_the_other_camera_give_numbers():
    scene = wall(0.0)
    scene["cam_from_world"][0, 1, 2, 3] = -5.0
    assert color_change(**scene).isfinite().all()
