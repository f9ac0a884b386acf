import io
import json
import lzma

import av
import numpy as np

from laq_model.simulation.camera_paths import draw_path
from laq_model.simulation.episode_writer import (
    EpisodeLabels,
    depth_in_mm,
    has_episode,
    write_index,
    write_labels,
    write_view,
)


def write_small_view(folder):
    rng = np.random.default_rng(0)
    colors = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]], dtype=np.uint8)
    rgb = np.broadcast_to(colors[:, None, None], (3, 32, 32, 3)).copy()
    depth_m = np.full((3, 8, 8), 1.2345, dtype=np.float32)
    depth_m[:, 0] = 9.0
    path = draw_path(rng, num_frames=3, size=32, move="orbit")
    write_view(
        folder,
        view="moving",
        name="reach-000",
        rgb=rgb,
        depth_m=depth_m,
        path=path,
        fps=10,
        depth_step_mm=4,
        crf=20,
    )
    return rgb, path


def test_depth_is_rounded_and_cut_at_eight_metres():
    depth = depth_in_mm(np.array([0.0, 1.2345, 1.2379, 7.999, 8.0, 30.0], dtype=np.float32), step_mm=4)
    assert depth.dtype == np.uint16
    assert depth.tolist() == [0, 1236, 1236, 8000, 0, 0]


def test_a_view_is_read_back(tmp_path):
    rgb, path = write_small_view(tmp_path)
    with av.open(str(tmp_path / "videos/moving/reach-000.webm")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    # Lossy, and chroma at half size: plain colours come back within a few levels.
    assert np.abs(np.stack(frames).astype(int) - rgb).max() < 12
    depth = np.load(io.BytesIO(lzma.decompress((tmp_path / "depth/moving/reach-000.npy.xz").read_bytes())))
    assert (depth[:, 0] == 0).all()
    assert (depth[:, 1:] == 1236).all()
    cameras = np.load(tmp_path / "cameras/moving/reach-000.npz")
    np.testing.assert_array_equal(cameras["K"], path.intrinsics)
    np.testing.assert_array_equal(cameras["T_cam_world"], path.cam_from_world)


def test_equal_pictures_give_equal_bytes(tmp_path):
    for run in ("a", "b"):
        write_small_view(tmp_path / run)
    files = [file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*")]
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_episode_counts_when_its_labels_stand(tmp_path):
    write_small_view(tmp_path)
    assert not has_episode(tmp_path, "reach-000")
    labels = EpisodeLabels(np.zeros((2, 4), np.float32), np.zeros((3, 3)), np.ones(3), np.zeros((3, 7)))
    write_labels(tmp_path, "reach-000", labels)
    assert has_episode(tmp_path, "reach-000")
    assert [file.name for file in (tmp_path / "labels").iterdir()] == ["reach-000.npz"]
    assert np.load(tmp_path / "labels/reach-000.npz")["gripper_open"].tolist() == [1, 1, 1]


def test_the_index_names_the_episodes(tmp_path):
    write_index(tmp_path, fps=10, size=32, views=["fixed"], episodes=[{"name": "reach-000"}])
    index = json.loads((tmp_path / "index.json").read_text())
    assert index == {"fps": 10, "size": 32, "views": ["fixed"], "episodes": [{"name": "reach-000"}]}
