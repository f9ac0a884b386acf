"""Rivals of a run: trained on its pairs where they are missing, then measured as the run is."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.testing import assert_close

from encoded_videos import store_and_run
from fake_encoder import FakeEncoder
from laq_model import precompute as precompute_module
from laq_model.checkpoint import open_run
from laq_model.cli import main
from laq_model.errors import DatasetError, RunError
from laq_model.evaluation import run_batches
from laq_model.evaluation.coded_pairs import GROUPS
from laq_model.evaluation.evaluate import EvaluateConfig, evaluate
from laq_model.evaluation.rival_codes import EvaluatedVideos, PixelCoder
from laq_model.feature_store import FeatureStore
from laq_model.metrics import probes
from laq_model.rivals.config import rival_of
from laq_model.rivals.pixel_laq import PixelLAQ
from laq_model.trained_run import open_trained_run
from laq_model.training import build_source
from laq_model.training.loop import train
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from tiny_training import tiny_config
from written_videos import write_video

DATA = VideoDataConfig(frame_size=112, frame_offset=5, num_workers=1, held_out_fraction=0.4)
PROBE = "probe.linear.ee_displacement.r2_mean"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos beside known actions, their store, and a run trained from it."""
    root = tmp_path_factory.mktemp("made")
    rows = []
    for number in range(8):
        frames = 9 + number
        write_video(root / "videos" / f"v{number}.webm", frames)
        places = torch.randn(frames, 3, generator=torch.Generator().manual_seed(number)).tolist()
        rows += [
            {"video": f"v{number}.webm", "frame": i, "position_m": place} for i, place in enumerate(places)
        ]
    pq.write_table(pa.Table.from_pylist(rows), root / "videos" / "actions.parquet")
    store_and_run(root, replace(DATA, data_dir=str(root / "videos")), num_steps=4)
    return root


@pytest.fixture(scope="module", autouse=True)
def encoder():
    encoder = FakeEncoder()
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_batches, precompute_module, build_source):
            patch.setattr(module, "build_encoder", lambda config, device: encoder)
        patch.setattr(probes, "MLP_STEPS", 10)
        yield encoder


def config_for(made, output, **changes) -> EvaluateConfig:
    config = EvaluateConfig(
        checkpoint=made / "run",
        features=str(made / "store"),
        output_dir=str(output),
        rivals=("pixels", "camera_frame"),
        pixel_frame_size=32,
        pixel_patch_size=8,
        probe_seeds=1,
        batch_size=5,
        device="cpu",
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def result(made, encoder):
    return evaluate(config_for(made, made / "out"))


def test_rivals_stand_in_the_table_of_the_run(made, result):
    for rival in ("pixels", "camera_frame"):
        for kind in ("linear", "mlp", "linear_continuous"):
            assert f"control.{rival}.probe.{kind}.ee_displacement.r2_mean" in result.figures
        assert f"control.{rival}.codes.used_fraction" in result.figures
    assert "control.pixels.copy_ratio_hard.changed" in result.figures
    assert "control.pixels.copy_ratio_hard.geometry" not in result.figures
    table = next(t for t in result.tables() if t.title == "What the tokens tell of the hand's motion")
    names = [row.name for row in table.rows if row.is_control]
    assert names.index("rival: pixels only, same pairs and budget") < names.index("first frame only (pixels)")
    assert "rival: image patches of single frames, same pairs and budget" in names
    assert "rival: pixels only" in (made / "out" / "evaluation.html").read_text()
    # The budget and the sizes are the run's own.
    run, rivals = open_run(made / "run"), made / "out" / "rivals"
    pixels = open_run(rivals / "pixels")
    assert pixels.config["optimization"] == {**run.config["optimization"], "micro_batch_size": 4}
    assert pixels.config["model"]["dim"] == run.config["model"]["dim"]
    assert pixels.record["data"]["videos"].keys() == run.record["data"]["videos"].keys()
    twin = open_run(rivals / "camera_frame" / "run")
    assert twin.record["data"]["videos"] == run.record["data"]["videos"]
    assert twin.config["encoder"]["pooling"] == "patch"
    assert twin.config["encoder"]["geometry_context"] == "frame"
    assert {**twin.config["model"]} == {**run.config["model"], "feature_channels": 6}


def test_the_second_time_nothing_is_trained(made, result, encoder):
    weights = sorted((made / "out" / "rivals").rglob("model.safetensors"))
    before = [file.stat().st_mtime_ns for file in weights]
    encoder.num_pairs = 0
    again = evaluate(config_for(made, made / "out", probe_kinds=("linear",)))
    assert {key: result.figures[key] for key in again.figures} == again.figures
    assert f"control.camera_frame.{PROBE}" in again.figures
    assert [file.stat().st_mtime_ns for file in weights] == before
    assert encoder.num_pairs == 0  # all pairs are in the rival's store


def test_new_videos_are_encoded_for_the_rival(made, tmp_path, result, encoder):
    for number in range(3):
        write_video(tmp_path / "new" / f"w{number}.webm", 9)
    encoder.num_pairs = 0
    new = {"data_dir": str(tmp_path / "new"), "features": "", "is_new_data": True}
    config = config_for(made, made / "out", probe_kinds=("linear",), **new)
    found = evaluate(config)
    assert encoder.num_pairs == 2 * 3 * 4  # for the run, and for its twin
    assert found.figures["control.pixels.codes.used_fraction"] > 0


def test_a_run_trained_from_videos_has_a_twin_trained_from_videos(made, tmp_path):
    own = open_trained_run(made / "run")
    data = replace(own.data, data_dir=str(made / "videos"))
    train(tiny_config("", tmp_path / "run", data=data, encoder=own.encoder, num_steps=2))
    config = config_for(made, tmp_path / "out", checkpoint=tmp_path / "run", probe_kinds=("linear",))
    result = evaluate(config)
    assert {f"control.{rival}.{PROBE}" for rival in ("pixels", "camera_frame")} <= result.figures.keys()
    twin = open_run(tmp_path / "out" / "rivals" / "camera_frame" / "run")
    assert twin.config["features"] == ""
    assert not (tmp_path / "out" / "rivals" / "camera_frame" / "features").exists()


def test_codes_follow_the_pixels_and_the_order_of_the_pairs(made, tmp_path):
    names = list(FeatureStore(made / "store").names)
    data = replace(DATA, data_dir=str(made / "videos"))
    rival = PixelLAQ(rival_of(open_trained_run(made / "run").model.config, frame_size=32, patch_size=8))
    coder = PixelCoder(rival.eval())
    index, config = build_index(data), config_for(made, tmp_path)
    forward = coder.code(EvaluatedVideos(names, index, data), config)
    backward = coder.code(EvaluatedVideos(names[::-1], index, data), config)
    assert_close(backward.continuous.flip(0), forward.continuous)
    assert torch.equal(backward.codes.flip(0), forward.codes)
    changed, others = (forward.copy_error[:, GROUPS.index(group)] for group in ("changed", "others"))
    assert (changed > others).all()
    assert_close((changed + others) / 2, forward.copy_error[:, 0])
    assert len(forward.continuous.unique(dim=0)) > 5
    gone = [replace(names[0], video="gone.webm")]
    with pytest.raises(DatasetError, match=r"1 are not in --data_dir \(gone.webm\)"):
        coder.code(EvaluatedVideos(gone, index, data), config)


def test_mistakes_end_in_one_line(made, tmp_path, capsys):
    command = [
        "evaluate",
        "--checkpoint",
        str(made / "run"),
        "--rivals",
        "pixels",
        "--pixel_patch_size",
        "15",
    ]
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "pixel_patch_size must divide pixel_frame_size, got 15 for 112" in said
    published = tmp_path / "published"
    open_trained_run(made / "run").model.save_pretrained(published)
    with pytest.raises(RunError, match=r"it has no run\.json\); give the run folder of the training"):
        evaluate(
            config_for(made, tmp_path, checkpoint=published, data_dir=str(made / "videos"), is_new_data=True)
        )


def test_without_rivals_a_note_says_how_to_get_them(made, tmp_path):
    config = config_for(made, tmp_path, rivals=(), probe_kinds=("linear",))
    evaluate(config)
    notes = json.loads((tmp_path / "evaluation.json").read_text())["notes"]
    assert "no rivals; --rivals pixels camera_frame trains them on the run's pairs with its budget" in notes
    assert not (tmp_path / "rivals").exists()
