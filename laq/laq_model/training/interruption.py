"""SIGTERM and Ctrl-C end a run between two steps, so that nothing is lost; a second one ends it at once."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Notes a signal while the ``with`` block runs; outside the main thread it notes none."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def is_asked(self) -> bool:
        """Whether this process was told to stop."""
        return self._signal is not None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def end_process(self) -> None:
        """End as the signal would have: status 130 after Ctrl-C, 143 after SIGTERM.

        Raises:
            KeyboardInterrupt: after Ctrl-C, or when another process was told to stop.
            SystemExit: after SIGTERM.
        """
        if self._signal is signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def resume_command(num_processes: int, *, has_gpu: bool, flag: str = "--resume") -> str:
    """The command line that goes on with the run of this process.

    Args:
        flag: that tells it to; empty for a job that goes on by itself, with a training as one of its parts.
    """
    program, *flags = sys.argv
    words = [program] if os.access(program, os.X_OK) and not program.endswith(".py") else ["python", program]
    if num_processes > 1:
        launcher = (
            ["accelerate", "launch", "--num_processes"] if has_gpu else ["torchrun", "--nproc_per_node"]
        )
        words = [*launcher, str(num_processes), program]
    return shlex.join([*words, *(word for word in flags if word != flag), *([flag] if flag else [])])
