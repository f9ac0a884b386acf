"""Units of work on a Ray cluster: tasks load them on any CPU, actors with the networks finish them on GPUs.

The only file that imports Ray. Ray Data holds the loaders back when the actors are busy, starts lost tasks
and actors again, and spreads both over the cluster. A unit that was under way on a lost machine is done again
from its start; its result is written whole or not at all, so doing it twice changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data

from .errors import LAQError, RunError
from .work_units import EngineConfig, Job


def _load(row: dict[str, Any], *, job: Job) -> dict[str, Any]:
    """A task: the unit with what it needs, or the error that the user should see."""
    try:
        return {**row, "loaded": [job.load(row["unit"])], "error": ""}
    except LAQError as error:
        return {**row, "loaded": [], "error": str(error)}


class _Worker:
    """An actor: builds the networks when it starts."""

    def __init__(self, job: Job):
        self._work = job.make_worker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        error = row["error"]
        if not error:
            try:
                self._work(row["unit"], row["loaded"][0])
            except LAQError as failure:
                error = str(failure)
        return {"place": row["place"], "error": error}


def run_with_ray(job: Job, units: Sequence[Any], config: EngineConfig) -> Iterator[int]:
    """Finish all units; gives the place of each as it is done.

    Raises:
        RunError: a unit failed for a reason that another try does not mend, or there is no such cluster.
    """
    try:
        ray.init(
            address=config.ray_address or os.environ.get("RAY_ADDRESS"),
            ignore_reinit_error=True,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(f"no Ray cluster can be reached or started ({error})") from error
    num_gpus = int(ray.cluster_resources().get("GPU", 0))
    rows = ray.data.from_items(
        [{"place": place, "unit": unit} for place, unit in enumerate(units)],
        override_num_blocks=len(units),
    )
    loaded = rows.map(_load, fn_kwargs={"job": job}, num_cpus=1)
    done = loaded.map(
        _Worker,
        fn_constructor_kwargs={"job": job},
        num_gpus=1 if num_gpus else 0,
        num_cpus=None if num_gpus else 1,
        compute=ray.data.ActorPoolStrategy(size=config.num_encoders or max(1, num_gpus)),
    )
    for row in done.iter_rows():
        if row["error"]:
            raise RunError(row["error"])
        yield int(row["place"])
