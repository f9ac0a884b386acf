"""The way of what moved lies where the future frame's camera sees it, by numbers worked out by hand."""

import shutil

import numpy as np
import pytest
import torch
from wall_and_box import CONFIG, SIZE_PX, observe, wall

from laq_model.feature_store import PairName
from laq_model.report.motion_paths import hand_path, mass_path
from laq_model.report.pair_motion import Compass
from laq_model.video.recorded_geometry import open_recorded
from written_videos import write_recorded


@pytest.fixture
def folder(tmp_path):
    """Focal lengths 100 and 120, principal point (31.5, 23.5), images of 64 × 64; the camera is at −t."""
    write_recorded(tmp_path, episodes=1, views=("fixed", "still"), num_frames=7)
    hand = np.array([[0.01 * n, 0.02 * n, 2.0] for n in range(7)])
    file = tmp_path / "labels" / "reach-000.npz"
    labels = dict(np.load(file))
    np.savez(file, **{**labels, "ee_pos": hand})
    return tmp_path


def name(view: str = "fixed", *, current: int = 0, future: int = 5) -> PairName:
    return PairName(f"videos/{view}/reach-000.webm", current, future, 0.0, 0.5)


def test_convention_the_hand_is_seen_by_the_future_camera(folder):
    path = hand_path(open_recorded(folder), name(), side_px=64)
    # The camera of frame 5 has x_cam = x_world + 5, and every place lies 2 m before it.
    expected = [[100 * (0.01 * n + 5) / 2 + 31.5, 120 * 0.02 * n / 2 + 23.5] for n in range(6)]
    np.testing.assert_allclose(path, expected, rtol=1e-5)


def test_convention_a_smaller_clip_keeps_its_border(folder):
    full, half = (hand_path(open_recorded(folder), name(), side_px=side) for side in (64, 32))
    torch.testing.assert_close(half, (full + 0.5) / 2 - 0.5)


def test_a_frozen_scene_has_no_moving_hand(folder):
    assert hand_path(open_recorded(folder), name("still"), side_px=64) is None


def test_without_labels_or_behind_the_camera_nothing_is_drawn(folder):
    file = folder / "labels" / "reach-000.npz"
    labels = dict(np.load(file))
    np.savez(file, **{**labels, "ee_pos": -labels["ee_pos"]})
    assert hand_path(open_recorded(folder), name(), side_px=64) is None
    shutil.rmtree(folder / "labels")
    assert hand_path(open_recorded(folder), name(), side_px=64) is None


def test_moved_mass_is_drawn_where_it_was_and_where_it_is():
    scene = observe(wall(box_column=4), wall(box_column=17))
    box = [scene.point_map_m[0, view, 10:16, column : column + 6] for view, column in ((0, 4), (1, 17))]
    centres = torch.stack([points.reshape(-1, 3).mean(0) for points in box]) / CONFIG.half_extent_m
    path = mass_path(scene, centres, half_extent_m=CONFIG.half_extent_m, side_px=SIZE_PX)
    # The boxes' middles: rows 10 to 15, columns 4 to 9 and 17 to 22.
    torch.testing.assert_close(path, torch.tensor([[6.5, 12.5], [19.5, 12.5]]), atol=1e-3, rtol=0)
    doubled = mass_path(scene, centres, half_extent_m=CONFIG.half_extent_m, side_px=2 * SIZE_PX)
    torch.testing.assert_close(doubled, 2 * path + 0.5)
    assert mass_path(scene, centres * torch.nan, half_extent_m=1.0, side_px=SIZE_PX) is None


def test_shifts_are_said_in_words_without_their_small_components():
    camera, world = Compass(is_camera=True), Compass(is_camera=False, unit="nominal cm")
    assert camera.words(torch.tensor([-0.03, 0.001, 0.02])) == "3.0 cm to the left, 2.0 up"
    assert camera.words(torch.tensor([0.0, -0.01, 0.0])) == "1.0 cm nearer"
    assert world.words(torch.tensor([0.03, -0.02, 0.001])) == "3.0 nominal cm along x, 2.0 along −y"
    assert camera.words(torch.zeros(3)) == "nowhere"
