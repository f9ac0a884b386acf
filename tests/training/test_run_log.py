"""What a run leaves behind: rows, tracker files, and the last word."""

import json
import re
from dataclasses import replace

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


def test_trackio_works_offline_and_goes_on_with_a_resumed_run(store, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="needs the extra [trackio]")
    from trackio.sqlite_storage import SQLiteStorage  # noqa: PLC0415

    config = tiny_config(store, tmp_path / "run", num_steps=4, use_trackio=True)
    train(config)
    train(replace(config, resume=True))  # nothing is left to do, but it is the same run there
    [name] = SQLiteStorage.get_runs("concerto-laq")
    assert name.startswith("run-")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
    logged = SQLiteStorage.get_logs("concerto-laq", name)
    assert {row["step"]: row["train/loss"] for row in logged if "train/loss" in row} == pytest.approx(losses)


@pytest.mark.parametrize("name", ["wandb", "tensorboard", "trackio"])
def test_a_tracker_that_is_not_installed_is_named(name, store, tmp_path, monkeypatch):
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    promised = f"--use_{name} needs the package {name}: pip install 'concerto-laq[{name}]'"
    with pytest.raises(ConfigError, match=f"^{re.escape(promised)}$"):
        train(tiny_config(store, tmp_path / "run", **{f"use_{name}": True}))


def test_a_tracker_that_accelerate_does_not_know_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(processes, "LOGGER_TYPE_TO_CLASS", {"wandb": None})
    with pytest.raises(
        ConfigError, match=r"--use_trackio needs a newer accelerate than \S+: pip install -U acc"
    ):
        train(tiny_config(store, tmp_path / "run", use_trackio=True))
