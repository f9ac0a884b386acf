"""What engines agree on: how a job loads and finishes a unit of work, and where the work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from .errors import ConfigError


@dataclass(frozen=True)
class EngineConfig:
    """Where the work is done."""

    engine: Literal["local", "ray"] = "local"
    """`local`: on this machine; `ray`: on a Ray cluster (extra [ray]), CPUs decoding for GPUs."""
    num_encoders: int = 0
    """Processes that run the networks. local: 0 is one; more share the cores, and each holds the networks.
    Ray: one GPU each where there are any; 0: as many as GPUs, or 1."""
    ray_address: str = ""
    """Ray: address of the cluster's head; empty: RAY_ADDRESS, or a cluster of this machine alone."""

    @property
    def is_in_this_process(self) -> bool:
        """Nothing is spread."""
        return self.engine == "local" and self.num_encoders <= 1

    def __post_init__(self) -> None:
        if self.num_encoders < 0:
            raise ConfigError(f"num_encoders must not be negative, got {self.num_encoders}")


@runtime_checkable
class Job(Protocol):
    """What is done with a unit. A job, its units and what it loads can be pickled."""

    def load(self, unit: Any) -> Any:
        """Read and decode what the unit needs; on the CPU, in any process."""
        ...

    def make_worker(self) -> Callable[[Any, Any], None]:
        """Build the networks, once a process; the worker finishes a unit from what was loaded for it."""
        ...
