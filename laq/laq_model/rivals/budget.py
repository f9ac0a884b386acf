"""How a run was optimised, so that its rivals get the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..trained_run import restore_config
from ..training.config import LoggingConfig, OptimizationConfig


@dataclass(frozen=True)
class Budget:
    """Steps, rates, and how often a rival is saved.

    Attributes:
        optimization: batch_size counts the pairs of a step on all of the run's processes.
    """

    optimization: OptimizationConfig
    logging: LoggingConfig


def budget_of_run(config: Mapping[str, Any], path: Path) -> Budget:
    """The budget of a run, for one process.

    Args:
        config: of the run (``run.json``).
        path: of the run, for messages.

    Raises:
        RunError: settings of another version.
    """
    options = restore_config(OptimizationConfig, config["optimization"], path)
    all_pairs = config.get("pairs_per_step", options.batch_size)
    return Budget(
        replace(
            options,
            batch_size=all_pairs,
            micro_batch_size=min(options.micro_batch_size or options.batch_size, all_pairs),
        ),
        replace(
            restore_config(LoggingConfig, config["logging"], path),
            use_wandb=False,
            use_tensorboard=False,
            use_trackio=False,
        ),
    )
