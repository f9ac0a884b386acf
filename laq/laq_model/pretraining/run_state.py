"""One pretraining run on disk: a state to resume from, and the network as it ships. All writes are atomic."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import RunError

log = logging.getLogger(__name__)

STATE_FILE = "resume.pt"
METRICS_FILE = "metrics.jsonl"
LICENCE = "Apache-2.0"


def learning_rate_share(step: int, *, num_steps: int, warmup_steps: int, decay_steps: int) -> float:
    """Trapezoid: a linear rise, a plateau, and a linear fall to zero over the last ``decay_steps``.

    The plateau lets a run be ended at any time: resume it with a smaller ``num_steps``, and only the fall is
    left. Source: Hägele et al. 2024 (arXiv 2405.18392).
    """
    rise = (step + 1) / max(1, warmup_steps)
    fall = (num_steps - step) / max(1, decay_steps)
    return max(0.0, min(1.0, rise, fall))


class AverageWeights:
    """Exponential average of a network's trainable weights; young averages forget faster."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.num_updates = 0
        self.tensors = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average toward the network's present weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        current = network.state_dict()
        averages = [value for value in self.tensors.values() if value.is_floating_point()]
        present = [current[key] for key, value in self.tensors.items() if value.is_floating_point()]
        torch._foreach_lerp_(averages, present, 1 - decay)


def save_run_state(
    folder: Path,
    *,
    step: int,
    network: nn.Module,
    average: AverageWeights,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Everything that the next step needs, in one file that is whole or absent."""
    state = {
        "step": step,
        "network": network.state_dict(),
        "average": average.tensors,
        "num_updates": average.num_updates,
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    path = folder / STATE_FILE
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_run_state(
    folder: Path, *, network: nn.Module, average: AverageWeights, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Put a saved run back and return its next step.

    Raises:
        RunError: there is nothing to resume, or it belongs to another network.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise RunError(f"nothing to resume: no {STATE_FILE} in {folder}; start without --resume")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["network"].keys() != network.state_dict().keys():
        raise RunError(
            f"{path} holds another network than this configuration builds; choose another --output"
        )
    network.load_state_dict(state["network"])
    average.tensors = {
        name: value.to(average.tensors[name].device) for name, value in state["average"].items()
    }
    average.num_updates = state["num_updates"]
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])


def save_network(
    path: Path, tensors: Mapping[str, Tensor], *, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write a network as it ships: float16 safetensors that carry their configuration, licence and origin.

    Raises:
        RunError: a value does not fit float16.
    """
    half = {key: value.detach().to("cpu", torch.float16).contiguous() for key, value in tensors.items()}
    broken = [key for key, value in half.items() if not bool(value.isfinite().all())]
    if broken:
        raise RunError(f"not finite in float16, so not saved: {', '.join(broken[:5])}")
    metadata = {"config": json.dumps(config), "licence": LICENCE, "provenance": json.dumps(provenance)}
    temporary = path.with_suffix(".tmp")
    save_file(half, temporary, metadata=metadata)
    temporary.chmod(0o644)  # safetensors keeps the file to its owner, a package may not
    os.replace(temporary, path)


def report(folder: Path, figures: Mapping[str, float | int]) -> None:
    """Say the figures of a step, and append them to the run's metrics."""
    log.info("  ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    with (folder / METRICS_FILE).open("a") as file:
        file.write(json.dumps(figures) + "\n")
