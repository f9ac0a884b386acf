"""Two processes (gloo) learn what one learns from the doubled batch, and resume to the same bits."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from laq_model.errors import ConfigError
from laq_model.training.loop import train
from laq_model.training.processes import build_accelerator
from tiny_training import small_store, state_of, tiny_config

# One script for all; its arguments: store, run, the step at which rank 1 dies (0: none), resume or not.
SCRIPT = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
import torch.distributed as dist
from tiny_training import tiny_config
from laq_model.checkpoint import RunFolder
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.training import loop
store, run, last, resume = sys.argv[1:]
taken = 0
take_step = loop.take_step
def take(model, optimizer, turns, accelerator, config, *, step, **options):
    out = take_step(model, optimizer, turns, accelerator, config, step=step, **options)
    if step + 1 == int(last):
        if dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.barrier()  # never passed: the other rank is gone
    return out
loop.take_step = take
def check_codebook(self, *arguments, **options):
    own = self.quantizer.codebook.weight.detach()
    all_codes = [own.clone() for _ in range(dist.get_world_size())]
    dist.all_gather(all_codes, own)
    assert all((codes == own).all() for codes in all_codes), "codebooks drifted apart"
forward = ConcertoLAQ.forward
def checked(self, *arguments, **options):
    if self.training:
        check_codebook(self)
    return forward(self, *arguments, **options)
ConcertoLAQ.forward = checked
config = tiny_config(Path(store), Path(run), batch_size=2, num_steps=40, resume=resume == "resume")
loop.train(config)
"""


def run_two(script, *arguments) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    status = 0
    for rank in ranks:
        try:
            _, errors = rank.communicate(timeout=120)
        finally:
            rank.kill()
        if rank.returncode:
            status = rank.returncode
            print(errors)
    return status


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_learn_what_one_does_and_resume_exactly(tmp_path):
    store = small_store(tmp_path / "store")
    script = tmp_path / "rank.py"
    script.write_text(SCRIPT.format(path=sys.path))
    train(tiny_config(store, tmp_path / "one", batch_size=4, num_steps=40))
    assert run_two(script, store, tmp_path / "two", 0, "new") == 0
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        # Rounding of the averaged gradients, grown over 40 steps of Adam, each of about 1e-3.
        torch.testing.assert_close(
            two[name], weights, rtol=1e-4, atol=5e-4, msg=lambda m, n=name: f"{n}: {m}"
        )

    killed = tmp_path / "killed"
    assert run_two(script, store, killed, 13, "new") != 0
    assert sorted(path.name for path in (killed / "checkpoints").glob("step_????????"))[-1] == "step_00000010"
    assert run_two(script, store, killed, 0, "resume") == 0
    assert state_of(killed) == state_of(tmp_path / "two")

    # The same pairs in a step, now all on one process: the run goes on, and ends within rounding.
    moved = shutil.copytree(tmp_path / "two", tmp_path / "moved")
    shutil.rmtree(moved / "checkpoints" / "step_00000040")
    train(tiny_config(store, moved, batch_size=4, num_steps=40, resume=True))
    for name, weights in load_file(moved / "model.safetensors").items():
        torch.testing.assert_close(two[name], weights, rtol=1e-4, atol=2e-4)


def test_a_launcher_that_starts_one_process_for_many_is_refused(tmp_path, monkeypatch):
    """What `accelerate launch --cpu --num_processes 2` sets for its only process."""
    for name in ("LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ConfigError, match=r"starts one process however many are asked for; use `torchrun"):
        build_accelerator(tiny_config(tmp_path, tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="device is cuda, but this machine has no CUDA device"):
        build_accelerator(tiny_config(tmp_path, tmp_path, device="cuda"))
