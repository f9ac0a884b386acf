"""Work in units that do not depend on one another: load on the CPU, then run the networks, unit by unit.

A job says how a unit is loaded, and makes the worker that finishes it (and that writes its result, whole or
not at all). In this process one unit is loaded while the one before is finished. ``--num_encoders`` does
the same in several processes (process_engine.py), ``--engine ray`` on many machines (ray_engine.py). In every
case a unit's result does not depend on who did it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .errors import ConfigError
from .process_engine import run_in_processes
from .work_units import EngineConfig, Job


def run_units(job: Job, units: Sequence[Any], config: EngineConfig) -> Iterator[int]:
    """Finish all units; gives the place of each in ``units`` as it is done, in any order.

    Raises:
        ConfigError: Ray is asked for and not installed.
        LAQError: whatever the job raises.
    """
    if not units:
        return iter(())
    if config.is_in_this_process:
        return _run_here(job, units)
    if config.engine == "local":
        return run_in_processes(job, units, num_processes=config.num_encoders)
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
