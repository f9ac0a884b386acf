"""The whole job on a run of a second: a synthetic store whose actions are known."""

import json
import zlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from laq_model.cli import main
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.evaluation.evaluate import EvaluateConfig, evaluate
from laq_model.feature_store import FeatureStore
from laq_model.metrics import probes
from laq_model.metrics.codebook import code_usage
from laq_model.trained_run import open_trained_run
from laq_model.training.loop import train
from laq_model.video.pairs import split_videos
from synthetic_store import FEATURE_CHANNELS, write_store
from tiny_training import tiny_config

NUM_VIDEOS, PAIRS_EACH, TOKENS = 6, 8, 12
VIDEOS = [f"v{number:02d}.webm" for number in range(NUM_VIDEOS)]


def moves_of(video: str) -> list[int]:
    """The actions from which ``synthetic_store.action_tokens`` made this video's pairs."""
    generator = torch.Generator().manual_seed(zlib.crc32(video.encode()))
    torch.randn(PAIRS_EACH, TOKENS, FEATURE_CHANNELS + 10, generator=generator)
    return torch.randint(-1, 2, (PAIRS_EACH,), generator=generator).tolist()


def write_actions(folder) -> None:
    """Places of a hand that moves as the pairs say: five frames later it is one move further."""
    folder.mkdir(exist_ok=True)
    rows = []
    for video in VIDEOS:
        place = [0.0] * (PAIRS_EACH + 5)
        for start, move in enumerate(moves_of(video)):
            place[start + 5] = place[start] + 0.05 * move
        rows += [
            {"video": video, "frame": frame, "position_m": [x, 0.0, 0.0]} for frame, x in enumerate(place)
        ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "actions.parquet")


@pytest.fixture(scope="module", autouse=True)
def short_probes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "MLP_STEPS", 20)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Store, actions, a run and its control."""
    folder = tmp_path_factory.mktemp("world")
    store = write_store(folder / "store", num_videos=NUM_VIDEOS, pairs_each=PAIRS_EACH)
    write_actions(folder / "data")
    train(tiny_config(store, folder / "run"))
    train(tiny_config(store, folder / "shuffled", shuffle_pairs=True))
    return folder


def config_of(world, **changes) -> EvaluateConfig:
    config = EvaluateConfig(
        checkpoint=world / "run",
        data_dir=str(world / "data"),
        features=str(world / "store"),
        shuffled_run=str(world / "shuffled"),
        output_dir=str(world / "out"),
        probe_seeds=1,
        device="cpu",
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def result(world):
    return evaluate(config_of(world))


def test_figures_are_of_the_held_out_videos_with_hard_codes(world, result):
    run = open_trained_run(world / "run")
    store = FeatureStore(world / "store")
    held_out = split_videos(VIDEOS, 0.3)[1]
    tokens = store.read([row for row, name in enumerate(store.names) if name.video in held_out]).to("cpu")
    codes = run.model.encode(tokens).codes
    ratio = run.model.prediction_error(tokens, codes).sum() / run.model.copy_error(tokens).sum()
    assert result.figures["copy_ratio_hard"] == pytest.approx(float(ratio), rel=1e-5)
    usage = code_usage(codes, codebook_size=8)
    assert result.figures["codes.used_fraction"] == pytest.approx(usage.used_fraction)
    assert result.facts["num_held_out_episodes"] == len(held_out)
    assert result.facts["num_held_out_pairs"] == len(tokens.feat)


def test_each_control_is_measured(result):
    for control in ("random_codes", "untrained_model", "shuffled_pairs"):
        assert f"control.{control}.copy_ratio_hard" in result.figures
        assert f"control.{control}.probe.linear.ee_displacement.r2_mean" in result.figures
    ratios = {
        name: result.figures[f"{name}copy_ratio_hard"]
        for name in ("", "control.random_codes.", "control.untrained_model.", "control.shuffled_pairs.")
    }
    assert len(set(ratios.values())) == 4


def test_what_is_written_is_what_is_given(world, result):
    found = json.loads((world / "out/evaluation.json").read_text())
    assert found["copy_ratio_hard"] == result.figures["copy_ratio_hard"]
    assert found["frame"] == "camera"
    page = (world / "out/evaluation.html").read_text()
    assert "trained on shuffled pairs" in page
    assert "data:image/png;base64," in page
    assert (world / "out/evaluation.md").read_text() == result.markdown()
    assert any("no controls that look at pictures" in note for note in result.notes)


def test_the_same_command_gives_the_same_figures(world, result):
    again = evaluate(config_of(world, output_dir=str(world / "again")))
    assert again.figures == result.figures


def test_one_command_does_it(world, capsys):
    main(
        [
            *("evaluate", "--checkpoint", str(world / "run"), "--features", str(world / "store")),
            *("--output_dir", str(world / "cli"), "--probe_seeds", "1", "--device", "cpu"),
        ]
    )
    said = capsys.readouterr().out
    assert "evaluation →" in said
    assert "the true actions are not known" in said
    assert "no control trained on shuffled pairs" in said
    assert "probe.linear.ee_displacement.r2_mean" not in json.loads(
        (world / "cli/evaluation.json").read_text()
    )


def test_a_run_that_is_no_control_is_refused(world):
    with pytest.raises(RunError, match="run was not trained with --shuffle_pairs; it is no control"):
        evaluate(config_of(world, shuffled_run=str(world / "run")))


def test_a_control_with_another_budget_is_noted(world, tmp_path):
    train(tiny_config(world / "store", tmp_path / "short", shuffle_pairs=True, num_steps=2))
    result = evaluate(
        config_of(world, shuffled_run=str(tmp_path / "short"), output_dir=str(tmp_path / "out"))
    )
    assert any("trained otherwise: optimization.num_steps is 2 there and 20 now" in n for n in result.notes)


def test_videos_that_were_all_trained_on_are_refused(world, tmp_path):
    record = json.loads((world / "run/run.json").read_text())
    record["data"]["videos"] = dict.fromkeys(VIDEOS, PAIRS_EACH)
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("config.json", "model.safetensors"):
        (copy / name).write_bytes((world / "run" / name).read_bytes())
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(DatasetError, match="every episode of these videos was trained on"):
        evaluate(config_of(world, checkpoint=copy, output_dir=str(tmp_path / "out")))
    fresh = evaluate(config_of(world, checkpoint=copy, output_dir=str(tmp_path / "out"), is_new_data=True))
    assert fresh.facts["num_held_out_episodes"] == NUM_VIDEOS


def test_an_output_that_cannot_be_written_is_refused_first(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to .*; choose another --output"):
        evaluate(config_of(world, output_dir=str(tmp_path / "file")))


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="probe_seeds must be at least 1, got 0"):
        EvaluateConfig(probe_seeds=0)


def test_without_data_one_line_says_what_to_give(world):
    config = config_of(world, data_dir="", features="", shuffled_run="")
    with pytest.raises(ConfigError, match="give --data_dir DIR, a folder of videos"):
        evaluate(config)
