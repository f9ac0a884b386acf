"""Reading the recorded layout: values, units, and files that are missing or wrong."""

import json
import lzma
import pickle

import numpy as np
import pytest

from laq_model.errors import DatasetError
from laq_model.video import recorded_geometry
from laq_model.video.recorded_geometry import (
    episode_name,
    has_geometry,
    open_recorded,
    read_cameras,
    read_depth,
    read_labels,
    view_name,
)
from written_videos import save_depth, write_recorded


@pytest.fixture
def folder(tmp_path):
    return write_recorded(tmp_path, episodes=2, views=("fixed",), num_frames=4, depth_size=(32, 32))


def test_names_come_from_the_path():
    assert episode_name("videos/moving/drawer-close-007.webm") == "drawer-close-007"
    assert view_name("videos/moving/drawer-close-007.webm") == "moving"
    with pytest.raises(
        DatasetError, match=r"a/b\.webm is not a path of the recorded layout, videos/VIEW/NAME"
    ):
        episode_name("a/b.webm")


def test_the_index_file(folder):
    recorded = open_recorded(folder)
    assert (recorded.fps, recorded.height, recorded.width) == (10.0, 64, 64)
    assert dict(recorded.num_frames) == {"reach-000": 4, "reach-001": 4}
    assert recorded.views == ("fixed",)
    assert recorded.world_up == (0.0, 0.0, 1.0)


def test_the_index_file_may_name_another_up_and_an_oblong_image(folder):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "world_up": [0, -2, 0], "size": [48, 64]}))
    recorded = open_recorded(folder)
    assert recorded.world_up == (0.0, -1.0, 0.0)
    assert (recorded.height, recorded.width) == (48, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": None}, r"index\.json lacks or garbles a field .*TypeError"),
        ({"size": "big"}, r"index\.json lacks or garbles a field .*ValueError"),
        ({"episodes": [{"name": "a"}]}, r"index\.json lacks or garbles a field .*KeyError\('frames'\)"),
        ({"world_up": [0, 0, 0]}, r"index\.json lacks or garbles a field .*ZeroDivisionError"),
    ],
)
def test_an_index_file_that_lacks_something(folder, change, message):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(DatasetError, match=message):
        open_recorded(folder)


def test_a_plain_folder_is_not_recorded(tmp_path):
    with pytest.raises(DatasetError, match=r"is not in the recorded layout \(no index\.json with episodes"):
        open_recorded(tmp_path)


def test_convention_depth_is_metres_along_the_axis(folder):
    """The writer stored 1000 · frame + 10 · row + column millimetres."""
    depth = read_depth(folder, "fixed", "reach-000")
    assert depth.dtype == np.float32
    assert depth.shape == (4, 32, 32)
    assert depth[2, 3, 4] == pytest.approx(2.034)
    assert depth[0, 0, 0] == 0


def test_cameras(folder):
    cameras = read_cameras(folder, "fixed", "reach-000")
    assert cameras.intrinsics.tolist() == [[100, 0, 31.5], [0, 120, 23.5], [0, 0, 1]]
    assert cameras.cam_from_world[3].tolist() == [[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_labels(folder):
    labels = read_labels(folder, "reach-001")
    assert labels.ee_pos_m[1].tolist() == [1.5, 2.0, 2.5]
    assert labels.gripper_open.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert labels.actions.shape == (3, 4)
    assert labels.object_pose.shape == (4, 7)


def test_changed_depth_is_read_again(folder):
    assert read_depth(folder, "fixed", "reach-000")[1, 0, 0] == pytest.approx(1.0)
    save_depth(folder, np.full((4, 32, 32), 250, np.uint16))
    assert read_depth(folder, "fixed", "reach-000")[1, 0, 0] == pytest.approx(0.25)


def test_depth_that_was_read_stays_in_memory_up_to_a_limit(folder, monkeypatch):
    reads = []
    decompress = lzma.decompress
    monkeypatch.setattr(recorded_geometry.lzma, "decompress", lambda raw: reads.append(1) or decompress(raw))
    one_episode = 4 * 32 * 32 * 2
    monkeypatch.setattr(
        recorded_geometry, "_recent_depth", recorded_geometry._RecentArrays(2 * one_episode - 1)
    )
    for name in ("reach-000", "reach-000", "reach-001", "reach-001", "reach-000"):
        read_depth(folder, "fixed", name)
    assert len(reads) == 3


def test_has_geometry_needs_depth_and_cameras(folder):
    assert has_geometry(folder, "fixed", "reach-000")
    (folder / "cameras/fixed/reach-000.npz").unlink()
    assert not has_geometry(folder, "fixed", "reach-000")
    assert not has_geometry(folder, "moving", "reach-001")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("depth/fixed/reach-000.npy.xz", None, r"reach-000\.npy\.xz is missing"),
        ("depth/fixed/reach-000.npy.xz", b"junk", r"reach-000\.npy\.xz is damaged: "),
        ("depth/fixed/reach-000.npy.xz", lzma.compress(b"junk"), r"reach-000\.npy\.xz is damaged: "),
        (
            "depth/fixed/reach-000.npy.xz",
            lzma.compress(pickle.dumps([1])),
            r"npy\.xz is damaged: .*allow_pickle",
        ),
        ("cameras/fixed/reach-000.npz", None, r"cameras/fixed/reach-000\.npz is missing"),
        ("cameras/fixed/reach-000.npz", b"PK\x03\x04junk", r"cameras/fixed/reach-000\.npz is damaged: "),
        ("labels/reach-000.npz", None, r"labels/reach-000\.npz is missing"),
        ("labels/reach-000.npz", b"", r"labels/reach-000\.npz is damaged: "),
    ],
)
def test_files_that_are_missing_or_damaged(folder, path, content, message):
    (folder / path).unlink()
    if content is not None:
        (folder / path).write_bytes(content)
    read = {
        "depth": lambda: read_depth(folder, "fixed", "reach-000"),
        "cameras": lambda: read_cameras(folder, "fixed", "reach-000"),
        "labels": lambda: read_labels(folder, "reach-000"),
    }
    with pytest.raises(DatasetError, match=message):
        read[path.split("/")[0]]()


def test_arrays_of_other_shapes(folder):
    save_depth(folder, np.zeros((4, 32, 32), np.float32))
    with pytest.raises(
        DatasetError, match=r"expected uint16 millimetres \[frames, height, width\], got float32"
    ):
        read_depth(folder, "fixed", "reach-000")
    path = folder / "cameras/fixed/reach-000.npz"
    np.savez(path, K=np.eye(3), T_cam_world=np.zeros((4, 3, 4)))
    with pytest.raises(DatasetError, match=r"expected K \[3, 3\] and T_cam_world .*, got .* \[4, 3, 4\]"):
        read_cameras(folder, "fixed", "reach-000")
    np.savez(path, K=np.eye(3))
    with pytest.raises(DatasetError, match=r"reach-000\.npz lacks an array: .*T_cam_world"):
        read_cameras(folder, "fixed", "reach-000")
    labels = dict(np.load(folder / "labels/reach-000.npz"))
    np.savez(folder / "labels/reach-000.npz", **{**labels, "actions": np.zeros((4, 4))})
    with pytest.raises(DatasetError, match=r"4 rows of ee_pos need 3 of actions, got 4"):
        read_labels(folder, "reach-000")
    np.savez(folder / "labels/reach-000.npz", **{**labels, "gripper_open": np.zeros((4, 1))})
    with pytest.raises(DatasetError, match=r"gripper_open must have 1 axes, got \[4, 1\]"):
        read_labels(folder, "reach-000")
