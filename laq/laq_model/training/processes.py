"""The device, the processes that share the work, and the trackers: what Hugging Face Accelerate sets up."""

from __future__ import annotations

import importlib.util
import os

import accelerate
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from ..devices import chosen_device, warn_of_slow_bfloat16
from ..errors import ConfigError
from .config import TrainConfig

_RANKS = ("LOCAL_RANK", "RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def build_accelerator(config: TrainConfig) -> Accelerator:
    """One process, or those that ``accelerate launch`` started.

    Raises:
        ConfigError: a device that is not there, or a tracker that is not installed.
    """
    refuse_lonely_process()
    device = chosen_device(config.device)
    precision = config.optimization.mixed_precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "no"
    if precision == "bf16":
        warn_of_slow_bfloat16(device, instead="--mixed_precision no")
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=precision,
        log_with=_trackers(config) or None,
        project_dir=str(config.output_dir),
        # Buffers are equal on all processes by construction (batch_rows.py): sending them would be a waste.
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
        ],
    )


def refuse_lonely_process() -> None:
    """``accelerate launch --cpu --num_processes 2`` starts one process, and says nothing about it.

    Raises:
        ConfigError: it did; the address of the others is then set, but no rank.
    """
    asked_for_more = (
        "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    )
    if asked_for_more and not any(os.environ.get(name) for name in _RANKS):
        raise ConfigError(
            "accelerate launch --cpu starts one process however many are asked for; use `torchrun "
            "--nproc_per_node N`, or `accelerate launch --multi_gpu --num_processes N` without --cpu"
        )


def _trackers(config: TrainConfig) -> list[str]:
    """Accelerate leaves out what is not installed without a word."""
    wanted = [
        name
        for name, is_wanted in (
            ("wandb", config.logging.use_wandb),
            ("tensorboard", config.logging.use_tensorboard),
            ("trackio", config.logging.use_trackio),
        )
        if is_wanted
    ]
    for name in wanted:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"--use_{name} needs the package {name}: pip install 'concerto-laq[{name}]'")
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                f"--use_{name} needs a newer accelerate than {accelerate.__version__}: "
                "pip install -U accelerate"
            )
    return wanted
