"""What a run leaves behind: rows, tracker files, and the last word."""

import json

import pytest

from laq_model.errors import ConfigError
from laq_model.training import processes
from laq_model.training.loop import train
from tiny_training import small_store, tiny_config


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"))


def test_rows_have_every_loss_at_every_logged_step(store, tmp_path, capsys):
    train(tiny_config(store, tmp_path / "run", num_steps=12, log_every=3, eval_every=5))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [3, 6, 9, 12]
    assert [row["step"] for row in rows if row["kind"] == "held_out"] == [5, 10, 12]
    needed = {"loss", "prediction_loss", "hard_code_loss", "copy_loss", "gradient_norm", "learning_rate"}
    assert all(needed <= row.keys() for row in rows if row["kind"] == "train")
    held_out = [row for row in rows if row["kind"] == "held_out"][-1]
    printed = capsys.readouterr().out
    assert f"trained 12 steps; held-out copy ratio (hard codes) {held_out['copy_ratio_hard']:.3f}" in printed


def test_tensorboard_writes_event_files(store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    train(tiny_config(store, tmp_path / "run", num_steps=4, use_tensorboard=True))
    files = list((tmp_path / "run").rglob("events.out.tfevents.*"))
    curves = {}
    for file in files:
        events = EventAccumulator(str(file)).Reload()
        curves |= {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
    assert {event.step: pytest.approx(event.value) for event in curves["train/loss"]} == losses
    assert [event.step for event in curves["held_out/copy_ratio_hard"]] == [4]


def test_wandb_works_offline(store, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tiny_config(store, tmp_path / "run", num_steps=4, use_wandb=True))
    [folder] = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert next(folder.glob("*.wandb")).stat().st_size > 0


def test_a_tracker_that_is_not_installed_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"--use_wandb needs the package wandb: pip install 'concerto-laq\[w"
    ):
        train(tiny_config(store, tmp_path / "run", use_wandb=True))
