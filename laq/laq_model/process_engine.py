"""Units of work in several processes of this machine: small networks leave most of a many-core CPU idle.

Every process builds its own networks and takes one unit after the other. A unit's result is written whole or
not at all, so a process may die at any moment.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from .errors import RunError
from .work_units import Job

_job: Job
_work: Callable[[Any, Any], None]


def run_in_processes(job: Job, units: Sequence[Any], *, num_processes: int) -> Iterator[int]:
    """Finish all units; gives the place of each as it is done. The processes share this one's threads evenly.

    Raises:
        RunError: a process was killed, by someone or for want of memory.
        LAQError: whatever the job raises.
    """
    num_processes = min(num_processes, len(units))
    num_threads = max(1, torch.get_num_threads() // num_processes)
    pool = ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),  # a fork would inherit the threads' locks, not them
        initializer=_start,
        initargs=(job, num_threads),
    )
    try:
        places = {pool.submit(_finish, unit): place for place, unit in enumerate(units)}
        for future in as_completed(places):
            future.result()
            yield places[future]
    except BrokenProcessPool as error:
        raise RunError(
            f"one of {num_processes} processes at work died, killed or out of memory; what was finished is "
            "kept: run the same command again, if need be with fewer --num_encoders"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(job: Job, num_threads: int) -> None:
    """In a new process: end with the parent, even one that was killed, and build the networks."""
    global _job, _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: at once and without a word; the parent speaks
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for good; the parent has said which networks these are)
    torch.set_num_threads(num_threads)
    _job, _work = job, job.make_worker()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _finish(unit: Any) -> None:
    _work(unit, _job.load(unit))
