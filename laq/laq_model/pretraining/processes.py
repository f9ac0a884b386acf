"""Several processes of one run, as ``torchrun`` starts them: each takes a share of every step.

    torchrun --nproc_per_node 2 -m laq_model.pretraining.tiny_vggt ...

On a CPU two processes of one thread are faster than one process of two: small tensors are worth no second
thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """Who shares the work: ``count`` processes, of which this one has the number ``rank``, on its device."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """The one that writes, reports and evaluates."""
        return self.rank == 0

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over all processes, which must have the same ones."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(joined)
        joined /= self.count
        parts = joined.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def join_processes(device: torch.device) -> Processes:
    """Find the others, if ``torchrun`` started any; on GPUs each process takes one of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device=device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), device)


def leave_processes() -> None:
    """Say goodbye to the others, if there are any: NCCL warns of a process that just ends."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
