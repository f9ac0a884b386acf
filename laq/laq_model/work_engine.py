"""Work in units that do not depend on one another: load on the CPU, then run the networks, unit by unit.

A job says how a unit is loaded, and makes the worker that finishes it (and that writes its result, whole or
not at all). In this process one unit is loaded while the one before is finished. ``--engine ray`` does the
same on many machines (ray_engine.py). Either way a unit's result does not depend on who did it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from .errors import ConfigError


@dataclass(frozen=True)
class EngineConfig:
    """Where the work is done."""

    engine: Literal["local", "ray"] = "local"
    """`local`: in this process; `ray`: on a Ray cluster (extra [ray]), CPUs decoding for GPUs."""
    num_encoders: int = 0
    """Ray: processes that run the networks, one GPU each where there are any; 0: as many as GPUs, or 1."""
    ray_address: str = ""
    """Ray: address of the cluster's head; empty: RAY_ADDRESS, or a cluster of this machine alone."""

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


def run_units(job: Job, units: Sequence[Any], config: EngineConfig) -> Iterator[int]:
    """Finish all units; gives the place of each in ``units`` as it is done, in any order.

    Raises:
        ConfigError: Ray is asked for and not installed.
        LAQError: whatever the job raises.
    """
    if not units:
        return iter(())
    if config.engine == "local":
        return _run_here(job, units)
    try:
        from .ray_engine import run_with_ray  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs the package ray ({error}); pip install 'concerto-laq[ray]'"
        ) from error
    return run_with_ray(job, units, config)


def _run_here(job: Job, units: Sequence[Any]) -> Iterator[int]:
    work = job.make_worker()
    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        coming: Future[Any] = thread.submit(job.load, units[0])
        for place, unit in enumerate(units):
            loaded = coming.result()
            if place + 1 < len(units):
                coming = thread.submit(job.load, units[place + 1])
            work(unit, loaded)
            del loaded  # some hundred frames, while the next hundreds are coming
            yield place
