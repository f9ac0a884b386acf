"""A run that was killed, stopped or cut short goes on as if nothing had happened."""

import json
import os
import shlex
import shutil
import signal

import pytest

from laq_model.durable_files import folder_lock
from laq_model.errors import RunError, WeightsError
from laq_model.training.loop import train
from synthetic_store import write_store
from tiny_training import small_store, start_python, state_of, tiny_config


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory):
    """The folder of an unbroken run; never written again."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(tiny_config(store, folder))
    return folder


@pytest.fixture
def copy(unbroken, tmp_path):
    """A finished run to resume, or to spoil."""
    return shutil.copytree(unbroken, tmp_path / "run")


TRAIN = """
import os, signal
from pathlib import Path
from tiny_training import tiny_config
from laq_model.checkpoint import RunFolder
from laq_model.training.loop import train
import torch
config = tiny_config(Path({store!r}), Path({run!r}))
"""

# kill -9 in the middle of step 13: its row is cut in half. The last checkpoint is that of step 10.
KILLED_IN_A_ROW = """
append = RunFolder.append_metrics
def cut(self, row):
    if row["step"] == 13:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 13, "ki')
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, row)
RunFolder.append_metrics = cut
train(config)
"""

# kill -9 while step 10 is saved: the weights are there, the optimiser is half written.
KILLED_WHILE_SAVING = """
save = torch.save
def cut(state, path):
    if "step_00000010" in str(path):
        Path(path).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, path)
torch.save = cut
train(config)
"""


@pytest.mark.parametrize(
    ("how", "saved"),
    [(KILLED_IN_A_ROW, "step_00000010"), (KILLED_WHILE_SAVING, "step_00000005")],
    ids=["in a row", "while saving"],
)
def test_kill_9_then_resume_gives_the_bits_of_an_unbroken_run(store, unbroken, tmp_path, how, saved):
    run = tmp_path / "run"
    process = start_python(TRAIN.format(store=str(store), run=str(run)) + how)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert sorted(path.name for path in (run / "checkpoints").glob("step_????????"))[-1] == saved
    train(tiny_config(store, run, resume=True))
    assert state_of(run) == state_of(unbroken)
    assert not list(run.rglob("*.tmp"))


# Sends itself a signal when step 7 is logged, as a scheduler or a user would.
SIGNALLED = """
import sys
sys.argv = ["laq/train_concerto_laq.py", "--output_dir", "a folder"]
append = RunFolder.append_metrics
def send(self, row):
    append(self, row)
    if row["step"] == 7 and row["kind"] == "train":
        os.kill(os.getpid(), signal.{name})
RunFolder.append_metrics = send
from laq_model.cli import run_door
run_door(lambda: train(config))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_says_how_to_go_on(store, unbroken, tmp_path, name, status):
    run = tmp_path / "run"
    script = TRAIN.format(store=str(store), run=str(run)) + SIGNALLED.format(name=name)
    process = start_python(script)
    out, _ = process.communicate()
    assert process.returncode == status
    assert "saved. Go on with:\n" in out
    command = shlex.split(out.split("Go on with:\n")[1])
    assert command == ["python", "laq/train_concerto_laq.py", "--output_dir", "a folder", "--resume"]
    # The signal is answered after the step that it came in, or the next.
    assert max(row["step"] for row in rows(run)) in (7, 8)
    train(tiny_config(store, run, resume=True))
    assert state_of(run) == state_of(unbroken)


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_finished_run_resumes_to_itself(store, copy):
    before = state_of(copy)
    result = train(tiny_config(store, copy, resume=True))
    assert result.held_out["copy_ratio_hard"] == rows(copy)[-1]["copy_ratio_hard"]
    assert state_of(copy) == before


FULL_DISK = """
import resource
from laq_model.errors import RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save = torch.save
def fill(state, path):
    if "step_00000010" in str(path):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    save(state, path)
torch.save = fill
try:
    train(config)
except RunError as error:
    print(error)
"""


def test_a_full_disk_while_saving_keeps_the_checkpoint_before(store, unbroken, tmp_path):
    """A limit on the size of files stands for the full disk."""
    run = tmp_path / "run"
    process = start_python(TRAIN.format(store=str(store), run=str(run)) + FULL_DISK)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "cannot save step 10 in" in out
    assert "the checkpoint step_00000005 is whole. Free space, then go on with --resume" in out
    assert not list(run.rglob("*.tmp"))
    train(tiny_config(store, run, resume=True))
    assert state_of(run) == state_of(unbroken)


class TestRefusals:
    def test_the_folder_of_another_run(self, store, copy):
        with pytest.raises(RunError, match=r"holds a run already; add --resume, or choose another"):
            train(tiny_config(store, copy))

    def test_resume_without_a_run(self, store, tmp_path):
        with pytest.raises(RunError, match=r"is no run folder \(it has no run\.json\)"):
            train(tiny_config(store, tmp_path / "run", resume=True))
        assert not (tmp_path / "run").exists()

    def test_other_flags_are_named(self, store, copy):
        changed = tiny_config(store, copy, resume=True, dim=32, learning_rate=2e-3, batch_size=8)
        with pytest.raises(RunError) as refusal:
            train(changed)
        assert "(dim was 16, is 32; learning_rate was 0.001, is 0.002; pairs_per_step was 4, is 8)" in str(
            refusal.value
        )

    def test_what_changes_no_number_may_change(self, store, copy):
        moved = shutil.copytree(store, copy.parent / "moved")
        train(tiny_config(moved, copy, resume=True, log_every=5, keep_checkpoints=1))

    def test_other_data(self, copy, tmp_path):
        more = write_store(tmp_path / "more", num_videos=8, pairs_each=8)
        with pytest.raises(RunError, match=r"the data of .* changed: \d videos of \w+ differ \(v0\d\.webm"):
            train(tiny_config(more, copy, resume=True))

    def test_other_tokens(self, copy, tmp_path):
        other = write_store(tmp_path / "other", settings={"weights": {"concerto": "abc"}})
        with pytest.raises(
            RunError, match=r"has other tokens: tokens\.weights is None there and \{'concerto'"
        ):
            train(tiny_config(other, copy, resume=True))

    def test_a_store_of_other_settings(self, store, tmp_path):
        with pytest.raises(
            RunError,
            match=r"the feature store .* other tokens: frame_size is 112 there and 224 now\. Give the flags",
        ):
            train(tiny_config(store, tmp_path / "run", frame_size=224))

    def test_two_trainers_in_one_folder(self, store, copy):
        with folder_lock(copy), pytest.raises(RunError, match="another process is writing into"):
            train(tiny_config(store, copy, resume=True))

    def test_an_output_that_cannot_be_written(self, store, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match=r"cannot write the run folder .*choose another --output_dir"):
            train(tiny_config(store, tmp_path / "file" / "run"))

    @pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "state.json"])
    def test_a_truncated_checkpoint_is_named(self, store, copy, name):
        file = copy / "checkpoints" / "step_00000020" / name
        os.truncate(file, file.stat().st_size // 2)
        with pytest.raises(
            RunError,
            match=r"checkpoint .*step_00000020 is damaged .*delete it, and --resume goes on from the one",
        ):
            train(tiny_config(store, copy, resume=True))

    def test_after_deleting_it_the_one_before_is_used(self, store, copy, unbroken):
        shutil.rmtree(copy / "checkpoints" / "step_00000020")
        train(tiny_config(store, copy, resume=True))
        assert state_of(copy) == state_of(unbroken)

    def test_a_checkpoint_of_another_configuration(self, store, copy, tmp_path):
        train(tiny_config(store, tmp_path / "other", dim=32))
        newest = copy / "checkpoints" / "step_00000020"
        shutil.rmtree(newest)
        shutil.copytree(tmp_path / "other" / "checkpoints" / "step_00000020", newest)
        with pytest.raises(
            WeightsError, match=r"weights of checkpoint .*step_00000020 do not fit ConcertoLAQ; wrong shape: "
        ):
            train(tiny_config(store, copy, resume=True))
