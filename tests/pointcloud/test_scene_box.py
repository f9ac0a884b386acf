"""The box that all views of a scene share."""

from __future__ import annotations

import math

import numpy as np
import pointcloud_twins as twins
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from laq_model.errors import GeometryError
from laq_model.pointcloud.scale import fit_scene_box, to_level

Z_UP, Y_DOWN_UP = torch.tensor([0.0, 0, 1]), torch.tensor([0.0, -1, 0])


def scene_points(seed: int = 0, scenes: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([2.0, 0.5, 1.0], dtype=dtype)
    return torch.randn(scenes, 2, 5, 6, 3, generator=generator, dtype=dtype) * spread + 3


def fit(
    points: torch.Tensor, up: torch.Tensor = Z_UP, *, is_metric: bool = False, is_kept=None, half: float = 1.0
):
    kept = torch.ones(points.shape[:-1], dtype=torch.bool) if is_kept is None else is_kept
    world_up = up.to(points.dtype).expand(len(points), 3)
    return fit_scene_box(
        points,
        is_kept=kept,
        world_up=world_up,
        is_metric=is_metric,
        half_extent_m=half,
        radius_percentile=90.0,
    )


def test_convention_opencv_world_becomes_x_right_y_forward_z_up():
    box = fit(scene_points(), Y_DOWN_UP)
    x, y, z = 1.0, 2.0, 3.0
    turned = box.rotation[0] @ torch.tensor([x, y, z], dtype=torch.float64)
    assert turned.tolist() == [x, z, -y]


def test_convention_up_is_plus_z():
    up = torch.tensor([0.36, 0.48, 0.8])
    rotation = fit(scene_points(), up).rotation[0]
    assert_close(rotation @ up.double(), torch.tensor([0.0, 0, 1], dtype=torch.float64), rtol=0.0, atol=1e-7)
    assert_close(torch.linalg.det(rotation), torch.tensor(1.0, dtype=torch.float64), rtol=0.0, atol=1e-7)


def test_level_scenes_are_not_turned_and_upside_down_ones_turn_about_x():
    assert torch.equal(fit(scene_points(), Z_UP).rotation[0], torch.eye(3, dtype=torch.float64))
    turned = fit(scene_points(), -Z_UP).rotation[0]
    assert torch.equal(turned, torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64)))


def test_convention_metric_scenes_stay_in_metres():
    points = scene_points() * 100
    box = fit(points, is_metric=True)
    assert box.metres_per_world_unit.item() == 1.0
    distances = (to_level(points, box)[0, 0, 0, 0] - to_level(points, box)[0, 1, 4, 5]).norm()
    assert_close(distances, (points[0, 0, 0, 0] - points[0, 1, 4, 5]).norm())


def test_convention_other_scenes_are_scaled_so_that_the_percentile_fits_the_box():
    # Along x the coordinates −9 … 9 about the median 0: radii 0 … 9; nine tenths lie within 8 or 9.
    points = torch.zeros(1, 1, 1, 19, 3)
    points[..., 0] = torch.arange(-9.0, 10.0) + 4
    box = fit_scene_box(
        points,
        is_kept=torch.ones(1, 1, 1, 19, dtype=torch.bool),
        world_up=Z_UP[None],
        is_metric=False,
        half_extent_m=2.0,
        radius_percentile=80.0,
    )
    assert box.origin_world.tolist() == [[4.0, 0.0, 0.0]]
    assert box.metres_per_world_unit.item() == 0.25  # 80 % of 19 is 15.2: the 16th radius is 8, and 2 / 8
    inside = (to_level(points, box).abs() <= 2.0).all(dim=-1).sum().item()
    assert inside == 17


def test_convention_origin_is_the_median_of_the_kept_points_of_all_views():
    points = torch.zeros(1, 2, 1, 3, 3)
    points[0, 0, 0, :, 1] = torch.tensor([1.0, 2.0, 50.0])  # world y is level −z, and x, z are 0
    points[0, 1, 0, :, 1] = torch.tensor([4.0, 9.0, 70.0])
    is_kept = torch.ones(1, 2, 1, 3, dtype=torch.bool)
    is_kept[0, 1, 0, 2] = False
    box = fit(points, Y_DOWN_UP, is_kept=is_kept, is_metric=True)
    assert box.origin_world.tolist() == [[0.0, 4.0, 0.0]]  # of 1, 2, 4, 9, 50
    assert to_level(points, box)[0, 0, 0].tolist() == [[0.0, 0.0, 3.0], [0.0, 0.0, 2.0], [0.0, 0.0, -46.0]]


def test_one_stray_point_hardly_moves_the_box():
    points = scene_points()
    before = fit(points)
    points[0, 0, 0, 0] = 1e6
    after = fit(points)
    assert_close(after.origin_world, before.origin_world, rtol=0.0, atol=0.2)
    assert_close(after.metres_per_world_unit, before.metres_per_world_unit, rtol=0.3, atol=0.0)


def test_equals_numpy_on_kept_points_only():
    points = scene_points(5, scenes=3)
    is_kept = torch.rand(3, 2, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.6
    points[~is_kept] = math.nan
    up = torch.tensor([0.36, -0.8, 0.48], dtype=torch.float64)
    box = fit(points, up, is_kept=is_kept, half=1.5)
    for scene in range(3):
        kept = points[scene][is_kept[scene]].numpy()
        rotation, origin, scale = twins.fit_scene_box(
            kept, up.numpy(), half_extent_m=1.5, radius_percentile=90
        )
        np.testing.assert_allclose(box.rotation[scene], rotation, atol=1e-12)
        np.testing.assert_allclose(box.origin_world[scene], origin, atol=1e-12)
        np.testing.assert_allclose(box.metres_per_world_unit[scene], scale, rtol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.1, 10.0), st.integers(0, 3))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_moving_turning_and_scaling_the_world_changes_nothing_but_heading(seed, factor, quarter_turns):
    points = scene_points(seed)
    shift = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    turn = torch.linalg.matrix_power(quarter, quarter_turns)
    before = to_level(points, fit(points))
    moved = factor * (points @ turn.T) + shift
    assert_close(to_level(moved, fit(moved)), before @ turn.T, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=10)
def test_tilting_the_world_with_its_up_changes_nothing(seed):
    points = scene_points(seed)
    up = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    up = up / up.norm()
    level_from_tilted = fit(points, up).rotation[0]
    before = to_level(points, fit(points))
    tilted = points @ level_from_tilted  # rows of (level-from-tilted)ᵀ x
    assert_close(to_level(tilted, fit(tilted, up)), before, rtol=1e-6, atol=1e-9)


def test_batch_neighbours_change_no_bit():
    points = scene_points(3, scenes=4, dtype=torch.float32)
    is_kept = torch.rand(4, 2, 5, 6, generator=torch.Generator().manual_seed(2)) < 0.7
    together = fit(points, Y_DOWN_UP, is_kept=is_kept)
    for scene in range(4):
        at = slice(scene, scene + 1)
        alone = fit(points[at], Y_DOWN_UP, is_kept=is_kept[at])
        assert torch.equal(to_level(points, together)[at], to_level(points[at], alone))


def test_scene_without_points_is_refused():
    is_kept = torch.ones(3, 2, 5, 6, dtype=torch.bool)
    is_kept[1] = False
    with pytest.raises(GeometryError, match=r"scene 1 of the batch has no point left after filtering"):
        fit(scene_points(scenes=3), is_kept=is_kept)


def test_points_that_are_not_finite_are_refused():
    points = scene_points(scenes=2)
    points[1, 0, 0, 0, 2] = math.nan
    with pytest.raises(GeometryError, match=r"scene 1 of the batch has points that are not finite"):
        fit(points)


def test_scene_without_size_is_refused():
    with pytest.raises(GeometryError, match=r"scene 0 of the batch has 90 % of its points at one place"):
        fit(torch.ones(1, 2, 5, 6, 3))
