"""Episodes from the simulator itself, where it is installed; the settings' checks need none."""

import io
import lzma
import os
import subprocess
import sys

import numpy as np
import pytest

from laq_model.errors import ConfigError
from laq_model.simulation.episodes import EpisodesConfig, make_episodes

SMALL = {"tasks": ("reach-v3",), "num_frames": 6, "size": 128, "depth_reduction": 2, "depth_step_mm": 1}


@pytest.fixture(scope="module")
def made(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    config = EpisodesConfig(
        output=folder, episodes_per_task=1, views=("fixed", "moving", "still"), crf=10, **SMALL
    )
    assert make_episodes(config) == ["reach-000"]
    return config


def bytes_of(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


def depth_of(config, view, name):
    file = config.output / "depth" / view / f"{name}.npy.xz"
    return np.load(io.BytesIO(lzma.decompress(file.read_bytes()))) / 1000


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(made):
    before = bytes_of(made.output)
    (made.output / "labels/reach-000.npz").unlink()
    (made.output / "videos/moving/reach-000.webm").write_bytes(b"cut short")
    assert make_episodes(made) == ["reach-000"]
    assert bytes_of(made.output) == before
    assert make_episodes(made) == []


def test_both_cameras_see_one_world(made):
    """Points that the fixed camera measures lie where the moving camera measures them too."""
    name, frame = "reach-000", 3
    fixed, moving = (np.load(made.output / "cameras" / view / f"{name}.npz") for view in ("fixed", "moving"))
    depth = depth_of(made, "fixed", name)[frame]
    rows, columns = np.mgrid[:64, :64]
    # Half-size depth: a pixel's centre (u, v) is that of the video's pixel 2 u + 0.5.
    ray = np.stack([2 * columns + 0.5, 2 * rows + 0.5, np.ones((64, 64))], -1) @ np.linalg.inv(fixed["K"]).T
    point = np.concatenate([ray * depth[..., None], np.ones((64, 64, 1))], -1).reshape(-1, 4)
    world = point @ np.linalg.inv(fixed["T_cam_world"][frame]).T
    seen = (world @ moving["T_cam_world"][frame].T)[:, :3]
    pixel = seen @ moving["K"].T
    column, row = np.rint((pixel[:, :2] / pixel[:, 2:] - 0.5) / 2).astype(int).T
    is_table = (depth.ravel() > 0) & (depth.ravel() < 1.6)
    is_inside = is_table & (column >= 0) & (column < 64) & (row >= 0) & (row < 64)
    measured = depth_of(made, "moving", name)[frame][row[is_inside], column[is_inside]]
    assert is_inside.sum() > 800
    # Rounding to a pixel costs part of the 2 cm of table that one covers; a wrong axis costs far more.
    assert np.median(np.abs(measured - seen[is_inside, 2])) < 0.02


def test_a_still_view_has_a_frozen_scene_and_a_moving_camera(made):
    cameras = np.load(made.output / "cameras/still/reach-000.npz")["T_cam_world"]
    assert np.abs(cameras[-1] - cameras[0]).max() > 0.001
    moving = np.load(made.output / "labels/reach-000.npz")
    assert np.linalg.norm(moving["ee_pos"][-1] - moving["ee_pos"][0]) > 0.005
    assert moving["actions"].shape == (5, 4)


def test_another_size_is_refused_in_the_same_folder(made):
    other = EpisodesConfig(
        output=made.output, views=("fixed", "moving", "still"), crf=10, **{**SMALL, "size": 32}
    )
    with pytest.raises(
        ConfigError, match=r"made with other settings \(size was 128, is 32\); choose another"
    ):
        make_episodes(other)


def test_an_unknown_task_is_named(simulator, tmp_path):
    with pytest.raises(ConfigError, match=r"Meta-World has no task 'fly-v3'; it has .*reach-v3"):
        make_episodes(EpisodesConfig(output=tmp_path, **{**SMALL, "tasks": ("fly-v3",)}))


def test_without_the_simulator_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match=r"simulator is not installed .*pip install 'concerto-laq\[sim\]'"):
        make_episodes(EpisodesConfig(output=tmp_path, **SMALL))


def test_without_graphics_one_line_says_what_to_install(simulator, tmp_path):
    command = f"from laq_model.cli import main; main(['benchmark', 'make', '--output', {str(tmp_path)!r}])"
    environment = {**os.environ, "MUJOCO_GL": "crayon", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error: MuJoCo cannot draw off-screen with MUJOCO_GL=crayon" in done.stderr
    assert "set MUJOCO_GL=osmesa" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 63}, "size must be even"),
        ({"size": 64, "depth_reduction": 5}, "multiple of depth_reduction 5, got 64"),
        ({"num_frames": 1}, "num_frames must be at least 2, got 1"),
        ({"episodes_per_task": 0}, "episodes_per_task must be at least 1, got 0"),
        ({"crf": 64}, "crf must be 0 to 63, got 64"),
        ({"depth_step_mm": 0}, "depth_step_mm must be 1 to 100, got 0"),
        ({"views": ()}, "at least one task and one view"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        EpisodesConfig(**wrong)
