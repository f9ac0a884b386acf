"""A clip's recording, read back: what is in it, on which timelines, and whether it stands where it should."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from laq_model.cli import parse
from laq_model.errors import ConfigError, RunError
from laq_model.report.camera_file import SeenFrame
from laq_model.report.rerun_recording import write_recording
from laq_model.structures import LatentActions
from laq_model.visualize import VisualizeConfig, visualize
from written_videos import write_recorded

SIZE = 56
FRAMES = (0, 4, 7, 11)  # four of twelve, spread evenly


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Recorded depth and cameras; the camera moves a metre a frame (see ``write_recorded``)."""
    pytest.importorskip("rerun", reason="recordings need the extra [rerun]")
    data = write_recorded(tmp_path_factory.mktemp("data") / "data", episodes=1, views=("fixed",))
    output = tmp_path_factory.mktemp("out")
    flags = ["--preset", "tiny", "--frame_size", str(SIZE), "--geometry", "sensor", "--half_extent_m", "30"]
    video = data / "videos" / "fixed" / "reach-000.webm"
    flags += ["--video", str(video), "--output", str(output), "--rerun", "--rerun_frames", "4"]
    return visualize(parse(VisualizeConfig, flags))


@pytest.fixture(scope="module")
def columns(clip) -> dict[str, dict]:
    return read_recording(clip.files[-1])


def read_recording(path: Path) -> dict[str, dict]:
    """Entity → column → value of each row, timelines included; times are nanoseconds."""
    chunks = importlib.import_module("rerun.chunk").RrdReader(path).stream().to_chunks()
    found: dict[str, dict] = {}
    for chunk in chunks:
        batch = chunk.to_record_batch()
        entity = found.setdefault(chunk.entity_path, {})
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            plain = values.cast(pa.int64()) if pa.types.is_temporal(values.type) else values
            entity.setdefault(name, []).extend(plain.to_pylist())
    return found


def numbers(entity: dict, component: str) -> list[np.ndarray]:
    (name,) = (name for name in entity if name.endswith(f":{component}"))
    return [np.array(value, dtype=float).squeeze() for value in entity[name]]


def test_the_clip_is_written_beside_the_pictures(clip):
    assert clip.files[-1].name == "reach-000.rrd"
    assert not list(clip.files[-1].parent.glob("*.tmp"))


def test_every_frame_has_picture_depth_camera_and_cloud(columns):
    assert {"/world", "/world/camera", "/world/camera/picture", "/world/camera/depth", "/world/cloud"} <= set(
        columns
    )
    for name in ("camera", "camera/picture", "camera/depth", "cloud"):
        entity = columns[f"/world/{name}"]
        assert entity["frame"] == list(FRAMES)
        seconds = [time / 1e9 for time in entity["time"]]
        assert seconds == pytest.approx([frame / 10 for frame in FRAMES])
    assert "/tokens/0" not in columns


def test_the_cameras_stand_where_they_were_recorded(columns):
    centres = np.array(numbers(columns["/world/camera"], "translation"))
    apart = np.linalg.norm(centres - centres[0], axis=1)
    np.testing.assert_allclose(apart, FRAMES, atol=1e-4)  # metres: one a frame, along one line


@pytest.mark.parametrize("view", range(len(FRAMES)))
def test_each_cloud_lies_on_the_depth_of_its_camera(columns, view):
    """By the recording alone, every point of a cloud falls on a pixel that has its depth."""
    camera = columns["/world/camera"]
    centre = numbers(camera, "translation")[view]
    world_from_cam = numbers(camera, "mat3x3")[view].reshape(3, 3).T  # stored by columns
    intrinsics = numbers(camera, "image_from_camera")[view].reshape(3, 3).T
    points = numbers(columns["/world/cloud"], "positions")[view]
    seen = (points - centre) @ world_from_cam  # rows of Rᵀ (x − c)
    pixel = seen @ intrinsics.T
    pixel = pixel[:, :2] / pixel[:, 2:]
    np.testing.assert_allclose(pixel, pixel.round(), atol=0.01)
    image = columns["/world/camera/depth"]
    buffer = next(value[view] for name, value in image.items() if name.endswith(":buffer"))
    depth = np.frombuffer(np.array(buffer, dtype=np.uint8).tobytes(), np.float32)
    depth = depth.reshape(64, 64)  # as recorded, not as large as the frame
    column, row = pixel.round().astype(int).T
    assert len(points) > 100
    np.testing.assert_allclose(seen[:, 2], depth[row, column], atol=1e-3)


def test_tokens_stand_at_the_time_of_their_pair(clip, tmp_path):
    codes = torch.tensor([[3, 200], [4, 7], [5, 7]])
    times = torch.tensor([0.0, 0.3, 0.6], dtype=torch.float64)
    tokens = LatentActions(codes, torch.zeros(3, 2, 4), times, times + 0.5)
    frame = SeenFrame(2, 0.2, (0, 0, 64), "")
    write_recording(tmp_path / "a.rrd", clip.scene, [frame], tokens=tokens)
    columns = read_recording(tmp_path / "a.rrd")
    for position in range(2):
        rows = columns[f"/tokens/{position}"]
        seconds = [time / 1e9 for time in rows["time"]]
        assert seconds == pytest.approx(times.tolist())
        told = [value for value in numbers(rows, "scalars") if value.size]
        assert [int(value) for value in told] == codes[:, position].tolist()


def test_a_recording_that_cannot_be_written_is_one_line(clip, tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*a\.rrd .*choose another --output"):
        write_recording(tmp_path / "nowhere" / "a.rrd", clip.scene, [SeenFrame(0, 0.0, (0, 0, 64), "")])


def test_without_rerun_the_way_to_get_it_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    (tmp_path / "a.webm").write_text("never opened")
    config = VisualizeConfig(video=str(tmp_path / "a.webm"), output=tmp_path / "out", rerun=True)
    with pytest.raises(ConfigError, match=r"--rerun needs the package rerun-sdk .*concerto-laq\[rerun\]"):
        visualize(config)
    assert not (tmp_path / "out").exists()


def test_tokens_are_for_recordings_only():
    with pytest.raises(ConfigError, match="give --rerun too"):
        VisualizeConfig(checkpoint=Path("run"))
    with pytest.raises(ConfigError, match="rerun_frames must be at least 1, got 0"):
        VisualizeConfig(rerun_frames=0)
