"""Two processes that share the steps of one pretraining run."""

import json
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_tiny_vggt import MICRO_NETWORK, config_of
from test_training_scenes import write_shard
from torch import nn

from laq_model.errors import ConfigError
from laq_model.pretraining import tiny_vggt
from laq_model.pretraining.processes import Processes

needs_processes = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")


def in_two_processes(work, *arguments) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    mp.spawn(_one_process, (port, work, arguments), nprocs=2)


def _one_process(rank: int, port: int, work, arguments) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2)
    work(Processes(rank, 2), *arguments)
    dist.destroy_process_group()


def _average(processes: Processes, folder) -> None:
    layer = nn.Linear(2, 1)
    layer.weight.grad = torch.tensor([[1.0, 2.0]]) * (1 + processes.rank)
    processes.average_gradients(layer.parameters())  # the bias has none
    torch.save(layer.weight.grad, folder / f"{processes.rank}.pt")


@needs_processes
def test_gradients_are_averaged(tmp_path):
    in_two_processes(_average, tmp_path)
    for rank in range(2):
        gradient = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert gradient.tolist() == [[1.5, 3.0]]


def _train(processes: Processes, folder) -> None:
    tiny_vggt.TINY_NETWORK = MICRO_NETWORK
    tiny_vggt.join_processes = lambda device: processes
    steps = []
    step_of = tiny_vggt.training_step

    def recorded(model, batch, **options):
        terms = step_of(model, batch, **options)
        steps.append((batch.frames.mean().item(), next(model.parameters()).sum().item()))
        return terms

    tiny_vggt.training_step = recorded
    tiny_vggt.train(config_of(folder, num_steps=3, save_every_steps=3))
    (folder / f"steps_{processes.rank}.json").write_text(json.dumps(steps))


@needs_processes
def test_processes_see_other_scenes_and_keep_the_same_weights(tmp_path):
    write_shard(tmp_path, "0000", clips=4)
    write_shard(tmp_path, "10000", clips=2, prefix="heldout_")
    in_two_processes(_train, tmp_path)
    first, second = (json.loads((tmp_path / f"steps_{rank}.json").read_text()) for rank in range(2))
    assert len(first) == 3
    assert all(a[0] != b[0] for a, b in zip(first, second, strict=True))
    assert [step[1] for step in first] == [step[1] for step in second]
    assert len({step[1] for step in first}) == 3
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_frames_that_cannot_be_shared_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_vggt, "join_processes", lambda device: Processes(0, 3))
    with pytest.raises(ConfigError, match="frames_per_step must divide by 3 processes, got 4"):
        tiny_vggt.train(config_of(tmp_path))
