"""A wall two metres away, seen by a camera at the origin: what is before, in and behind it."""

from __future__ import annotations

import math

import pytest
import torch

from laq_model.geometry.visibility import cell_state
from laq_model.structures import FREE, OCCUPIED, UNKNOWN

# Ten pixels a side, focal length 10, the optical axis through pixel (4, 4).
INTRINSICS = torch.tensor([[10.0, 0, 4], [0, 10, 4], [0, 0, 1]])
MARGIN = 0.1


def state_of(
    centre: tuple[float, float, float], *, depth: float | torch.Tensor = 2.0, is_occupied: bool = False
) -> int:
    image = depth if isinstance(depth, torch.Tensor) else torch.full((10, 10), depth)
    state = cell_state(
        torch.tensor([[centre]]),
        is_occupied=torch.tensor([[[is_occupied]]]),
        depth=image[None, None],
        intrinsics=INTRINSICS[None, None],
        cam_from_world=torch.eye(3, 4)[None, None],
        margin=MARGIN,
    )
    return state.item()


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((0, 0, 1.0), FREE),
        ((0, 0, 1.85), FREE),
        ((0, 0, 1.95), UNKNOWN),  # nearer than the wall, but within the margin
        ((0, 0, 2.5), UNKNOWN),  # hidden behind it
        ((0, 0, -1.0), UNKNOWN),  # behind the camera
        ((0, 0, 0.0), UNKNOWN),  # in the camera
        ((0.54, 0, 1.0), FREE),  # u = 9.4: the last column reaches to 9.5
        ((0.56, 0, 1.0), UNKNOWN),
        ((-0.44, 0, 1.0), FREE),  # u = −0.4: the first column starts at −0.5
        ((-0.46, 0, 1.0), UNKNOWN),
        ((0, 0.56, 1.0), UNKNOWN),
        ((0, -0.46, 1.0), UNKNOWN),
    ],
)
def test_convention_free_is_before_what_is_seen_and_unknown_is_hidden_or_out_of_view(centre, expected):
    assert state_of(centre) == expected


def test_convention_a_cell_with_points_is_occupied():
    assert state_of((0, 0, 2.5), is_occupied=True) == OCCUPIED
    assert state_of((0, 0, 1.0), is_occupied=True) == OCCUPIED


@pytest.mark.parametrize("depth", [0.0, -1.0, math.nan, math.inf])
def test_convention_a_pixel_without_depth_says_nothing(depth):
    assert state_of((0, 0, 1.0), depth=depth) == UNKNOWN


def test_the_pixel_is_column_then_row():
    depth = torch.full((10, 10), 0.5)
    depth[4, 7] = 2.0  # row 4, column 7
    assert state_of((0.3, 0.0, 1.0), depth=depth) == FREE
    assert state_of((0.0, 0.3, 1.0), depth=depth) == UNKNOWN


def test_views_and_scenes_keep_apart():
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(3, 50, 3, generator=generator) + torch.tensor([-0.5, -0.5, 0.8])
    is_occupied = torch.rand(3, 2, 50, generator=generator) < 0.2
    depth = 1 + torch.rand(3, 2, 10, 10, generator=generator)
    cameras = torch.eye(3, 4).expand(3, 2, 3, 4).clone()
    cameras[:, 1, 0, 3] = 0.2
    args = {"intrinsics": INTRINSICS.expand(3, 2, 3, 3), "cam_from_world": cameras}
    together = cell_state(centre, is_occupied=is_occupied, depth=depth, margin=MARGIN, **args)
    for scene in range(3):
        for view in range(2):
            at = (slice(scene, scene + 1), slice(view, view + 1))
            alone = cell_state(
                centre[scene : scene + 1],
                is_occupied=is_occupied[at],
                depth=depth[at],
                intrinsics=args["intrinsics"][at],
                cam_from_world=cameras[at],
                margin=MARGIN,
            )
            assert torch.equal(together[at], alone)
    assert {UNKNOWN, FREE, OCCUPIED} == set(together.flatten().tolist())
