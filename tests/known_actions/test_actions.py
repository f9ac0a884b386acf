"""The truth about pairs, by hand."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.testing import assert_close

from laq_model.errors import DatasetError
from laq_model.known_actions.actions import episode_and_view, rotation_vector, true_actions
from recorded_folder import FRAMES, camera_at, pair, write_recorded


@pytest.fixture
def folder(tmp_path):
    views = {
        "fixed": [camera_at(0)] * FRAMES,
        "moving": [camera_at(0.1 * i, turn_rad=np.pi / 2 * (i == 3)) for i in range(FRAMES)],
        "still": [camera_at(0.1 * i) for i in range(FRAMES)],
    }
    return write_recorded(tmp_path / "data", views, episodes=("reach-000",))


def test_motion_is_the_difference_of_two_frames(folder):
    truth = true_actions([pair("videos/fixed/reach-000.webm", 1, 3)], str(folder), frame="world")
    assert_close(truth.targets["ee_displacement"].values, torch.tensor([[0.02, 0.04, 0.06]]))
    assert_close(truth.targets["gripper"].values, torch.tensor([[-0.2]]))
    # Commands 1 and 2 lead from frame 1 to frame 3.
    assert_close(truth.targets["action"].values, torch.tensor([[1.5, 0.0, 0.0, 0.5]]))
    assert truth.targets["action"].dimensions == ("x", "y", "z", "gripper")
    assert (truth.episode, truth.view) == (["reach-000"], ["fixed"])


def test_convention_camera_frame_is_level_and_of_the_current_camera(folder):
    truth = true_actions([pair("videos/moving/reach-000.webm", 1, 3)], str(folder), frame="camera")
    # A camera that looks along +y has the world's own axes: right x, ahead y, up z. The turn comes later.
    assert_close(truth.targets["ee_displacement"].values, torch.tensor([[0.02, 0.04, 0.06]]))


def test_convention_a_camera_turned_to_the_left_sees_ahead_as_right(tmp_path):
    # Looking along -x (a quarter turn to the left of +y), the world's +y lies to the right, +x behind.
    cameras = [camera_at(0, turn_rad=-np.pi / 2)] * FRAMES
    ahead = cameras[0][2, :3]
    np.testing.assert_allclose(ahead, [-1, 0, 0], atol=1e-12)
    folder = write_recorded(tmp_path / "data", {"fixed": cameras}, episodes=("reach-000",))
    truth = true_actions([pair("videos/fixed/reach-000.webm", 0, 1)], str(folder), frame="camera")
    assert_close(truth.targets["ee_displacement"].values, torch.tensor([[0.02, -0.01, 0.03]]))
    assert_close(truth.targets["action"].values, torch.tensor([[0.0, 0.0, 0.0, 0.5]]))


def test_nothing_happens_in_a_still_view(folder):
    truth = true_actions([pair("videos/still/reach-000.webm", 0, 3)], str(folder), frame="world")
    for target in truth.targets.values():
        assert (target.values == 0).all()
    # But its camera moves: 0.3 m to the right, so the future camera's points lie 0.3 m further right for us.
    assert_close(truth.camera_motion.values, torch.tensor([[0.0, 0, 0, 0.3, 0, 0]]))


def test_camera_motion_is_turn_and_shift_seen_from_the_current_camera(folder):
    moving = true_actions([pair("videos/moving/reach-000.webm", 2, 3)], str(folder), frame="world")
    # The camera turns by a quarter about its own down axis, and goes 0.1 m to its right.
    turn = moving.camera_motion.values[0, :3]
    assert_close(turn.abs(), torch.tensor([0.0, np.pi / 2, 0.0]), atol=1e-6, rtol=0)
    assert_close(moving.camera_motion.values[0, 3:], torch.tensor([0.1, 0.0, 0.0]), atol=1e-6, rtol=0)
    fixed = true_actions([pair("videos/fixed/reach-000.webm", 0, 3)], str(folder), frame="world")
    assert (fixed.camera_motion.values == 0).all()


def test_a_rotation_vector_is_axis_times_angle():
    angle = 0.3
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    np.testing.assert_allclose(rotation_vector(about_z), [0, 0, angle], atol=1e-12)
    np.testing.assert_allclose(rotation_vector(np.eye(3)), 0)
    np.testing.assert_allclose(rotation_vector(about_z.T), [0, 0, -angle], atol=1e-12)


def test_views_belong_to_episodes_and_other_videos_are_their_own():
    assert episode_and_view("videos/moving/reach-000.webm") == ("reach-000", "moving")
    assert episode_and_view("kitchen/cup.mp4") == ("kitchen/cup.mp4", "")


def test_without_labels_nothing_is_known(tmp_path):
    truth = true_actions([pair("cup.webm", 0, 1)], str(tmp_path), frame="camera")
    assert truth.targets == {}
    assert truth.episode == ["cup.webm"]


def test_a_missing_label_file_is_named(folder):
    (folder / "labels/reach-000.npz").unlink()
    with pytest.raises(DatasetError, match=r"labels/reach-000\.npz is missing"):
        true_actions([pair("videos/fixed/reach-000.webm", 0, 1)], str(folder), frame="world")


class TestActionTable:
    def write(self, folder, **columns):
        rows = {"video": ["cup.webm"] * 4, "frame": [0, 1, 2, 3], **columns}
        pq.write_table(pa.table(rows), folder / "actions.parquet")
        return str(folder)

    def test_commands_are_averaged_and_places_subtracted(self, tmp_path):
        data = self.write(
            tmp_path,
            action=[[1.0, 5.0], [2.0, 5.0], [6.0, 5.0], [99.0, 99.0]],
            position_m=[[0.0, 0, 0], [0, 0, 1], [0, 1, 1], [2, 1, 1]],
            gripper_open=[1.0, 0.5, 0.25, 0.0],
        )
        truth = true_actions([pair("cup.webm", 0, 3), pair("cup.webm", 1, 2)], data, frame="camera")
        assert_close(truth.targets["action"].values, torch.tensor([[3.0, 5.0], [2.0, 5.0]]))
        assert_close(truth.targets["ee_displacement"].values, torch.tensor([[2.0, 1, 1], [0, 1, 0]]))
        assert_close(truth.targets["gripper"].values, torch.tensor([[-1.0], [-0.25]]))
        assert truth.camera_motion is None

    def test_a_missing_frame_is_named(self, tmp_path):
        data = self.write(tmp_path, action=[[1.0], [2.0], [3.0], [4.0]])
        with pytest.raises(DatasetError, match=r"actions.parquet has no row for frame 4 of cup.webm"):
            true_actions([pair("cup.webm", 2, 5)], data, frame="world")

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({}, "has none of the columns action, position_m, gripper_open"),
            ({"action": [[1.0], [2.0], [3.0, 4.0], [5.0]]}, "must have equally many numbers"),
            ({"gripper_open": [1.0, None, 0.0, 0.0]}, "missing or not finite"),
            ({"position_m": [[1.0, 2.0]] * 4}, "must have 3 numbers in each row, got 2"),
        ],
    )
    def test_a_table_that_cannot_be_used_is_refused(self, tmp_path, columns, message):
        data = self.write(tmp_path, **columns)
        with pytest.raises(DatasetError, match=message):
            true_actions([pair("cup.webm", 0, 1)], data, frame="world")

    def test_a_damaged_table_is_named(self, tmp_path):
        (tmp_path / "actions.parquet").write_bytes(b"PAR1 no more")
        with pytest.raises(DatasetError, match=r"actions.parquet is damaged"):
            true_actions([pair("cup.webm", 0, 1)], str(tmp_path), frame="world")


def test_a_recorded_folder_without_any_labels_knows_no_actions(tmp_path):
    folder = write_recorded(tmp_path / "r", {"fixed": [camera_at(0)] * FRAMES}, episodes=("a", "b"))
    names = [pair("videos/fixed/a.webm", 0, 2), pair("videos/fixed/b.webm", 0, 2)]
    shutil.rmtree(folder / "labels")
    assert true_actions(names, str(folder), frame="world").targets == {}
