"""A run folder: what it keeps, what it forgets, and what it refuses to read."""

import dataclasses
import json

import pytest
import torch

from laq_model.checkpoint import RunFolder, create_run, open_run
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.errors import RunError
from synthetic_store import FEATURE_CHANNELS
from tiny_training import MODEL

CONFIG = dataclasses.replace(MODEL, feature_channels=FEATURE_CHANNELS)


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return create_run(tmp_path / "run", config={"seed": 3}, manifest={"videos": {"a.webm": 4}})


def model_and_optimizer(seed: int = 0) -> tuple[ConcertoLAQ, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = ConcertoLAQ(CONFIG)
    return model, torch.optim.AdamW(model.parameters())


def test_a_run_says_how_it_was_made(run):
    record = open_run(run.path).record
    assert record["config"] == {"seed": 3}
    assert record["data"] == {"videos": {"a.webm": 4}}
    assert record["versions"]["torch"] == torch.__version__
    assert isinstance(record["command"], list)


def test_the_newest_checkpoints_are_kept_and_the_last_is_loaded(run):
    for step in (5, 10, 15):
        model, optimizer = model_and_optimizer(step)
        run.save_checkpoint(model, optimizer, step=step, notes={"at": step}, keep=2)
    assert [path.name for path in run.checkpoints()] == ["step_00000010", "step_00000015"]
    other, other_optimizer = model_and_optimizer(99)
    assert run.load_checkpoint(other, other_optimizer) == (15, {"at": 15})
    newest, _ = model_and_optimizer(15)
    for key, value in newest.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    shipped = ConcertoLAQ.from_pretrained(run.path)
    assert torch.equal(shipped.forward_dynamics.head.weight, newest.forward_dynamics.head.weight)


def test_a_run_without_checkpoint_starts_at_0(run):
    assert run.load_checkpoint(*model_and_optimizer()) == (0, {})


def test_rows_beyond_the_checkpoint_and_litter_are_cleared(run):
    for step in range(1, 5):
        run.append_metrics({"step": step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    (run.path / "checkpoints" / "step_00000004.tmp").mkdir(parents=True)
    assert run.read_metrics() == [{"step": step} for step in range(1, 5)]
    run.start_from(2)
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert list((run.path / "checkpoints").iterdir()) == []


def test_a_half_deleted_checkpoint_is_none(run):
    model, optimizer = model_and_optimizer()
    run.save_checkpoint(model, optimizer, step=5, notes={}, keep=2)
    (run.path / "checkpoints" / "step_00000005").rename(run.path / "checkpoints" / "step_00000005.old.tmp")
    assert run.load_checkpoint(model, optimizer) == (0, {})


def test_another_optimiser_is_refused(run):
    model, optimizer = model_and_optimizer()
    run.save_checkpoint(model, optimizer, step=5, notes={}, keep=2)
    other = torch.optim.AdamW([{"params": list(model.parameters())[:3]}])
    with pytest.raises(RunError, match=r"step_00000005 is of another model or optimiser .*; start anew"):
        run.load_checkpoint(model, other)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(
        RunError, match=r"is no run folder \(it has no run\.json\); give the --output_dir of a"
    ):
        open_run(tmp_path)


def test_a_damaged_record(run):
    (run.path / "run.json").write_text(json.dumps(run.record)[:20])
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        open_run(run.path)


def test_a_second_run_in_the_folder(run):
    with pytest.raises(RunError, match=r"holds a run already; continue it with --resume, or choose another"):
        create_run(run.path, config={}, manifest={})
