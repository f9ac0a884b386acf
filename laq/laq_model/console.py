"""What a command says, for a terminal, for a quiet log, or as JSON lines for a cluster's log collector.

Jobs print plain lines and draw tqdm bars, and know nothing of this file; it reads what passes through the two
standard streams of this process. (Processes that a job starts have their own.)
"""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timezone
from typing import Any, Literal, Protocol, runtime_checkable

LogFormat = Literal["text", "json"]
PROGRESS_EVERY_S = 10.0  # a bar redraws ten times a second, a log needs less

# tqdm's own meter: "train:  40%|████      | 8/20 [00:01<00:02,  5.9it/s, loss=0.4]"
_METER = re.compile(
    r"(?:(?P<task>.*?): *)?(?:\d+%\|.*\| *(?P<done>\S+)/(?P<total>\S+)|(?P<count>\d+)\S*) \[(?P<rest>.*)\]$"
)
_ERROR, _WARNING = "error: ", re.compile(r"warning\b", re.IGNORECASE)

Emit = Callable[[dict[str, Any]], None]


@runtime_checkable
class Stream(Protocol):
    """What this file needs of a standard stream."""

    def write(self, text: str, /) -> int:
        """Take text."""
        ...

    def flush(self) -> None:
        """Pass it on."""
        ...

    def fileno(self) -> int:
        """The number that child processes inherit."""
        ...


@contextmanager
def console(*, is_quiet: bool = False, log_format: LogFormat = "text") -> Iterator[None]:
    """Run a command with this manner of speaking.

    Args:
        is_quiet: nothing but warnings and errors, both on stderr.
        log_format: ``json``: an object a line with time, kind (message, progress, warning, error, log) and
            text; a progress has task, done and total, too, and comes every ten seconds and at the end.
    """
    if not is_quiet and log_format == "text":
        yield
        return
    out, err = sys.stdout, sys.stderr
    write = _write_json if log_format == "json" else _write_text
    kept = {"warning", "error"} if is_quiet else None

    def emit_to(stream: Stream) -> Emit:
        def emit(row: dict[str, Any]) -> None:
            if kept is None or row["kind"] in kept:
                write(err if is_quiet else stream, row)

        return emit

    with (
        redirect_stdout(_LineReader(out, emit_to(out), kind="message")) as own_out,
        # What a library complains about is no progress: it is kept in a quiet log, too.
        redirect_stderr(_LineReader(err, emit_to(err), kind="warning" if is_quiet else "log")) as own_err,
    ):
        try:
            yield
        finally:
            own_out.finish()
            own_err.finish()


class _LineReader(io.TextIOBase):
    """A stream that hands on whole lines, and knows a bar that is redrawn from a line that stays."""

    def __init__(self, stream: Stream, emit: Emit, *, kind: str):
        self._stream, self._emit, self._kind = stream, emit, kind
        self._pending = ""
        self._has_returned = False  # what is pending began at the left edge, over an older line
        self._bar: re.Match[str] | None = None  # drawn, and not ended by a new line
        self._said: dict[str, tuple[float, str]] = {}  # task → when it was last reported, and how far it was
        self._lock = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream behind."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """Of the stream behind."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Take in a piece of text, and hand on the lines that it ends."""
        with self._lock:
            for piece in re.split(r"([\r\n])", text):
                if piece == "\r":
                    if self._pending.strip() and not self._has_returned:  # a line that ends in \r\n
                        self._emit(self._message(self._pending.rstrip()))
                    self._pending, self._bar, self._has_returned = "", None, True
                elif piece == "\n":
                    self.finish()
                else:
                    self._pending += piece
        return len(text)

    def flush(self) -> None:
        """Report the bar that was just drawn, if it is time to."""
        with self._lock:
            if self._has_returned and (drawn := _METER.match(self._pending.strip())):
                self._pending, self._bar, self._has_returned = "", drawn, False
                self._report(drawn, is_final=False)
        self._stream.flush()

    def finish(self) -> None:
        """Hand on what stands on the line."""
        with self._lock:
            text = self._pending.rstrip()
            if text.strip():
                self._emit(self._message(text))
            elif self._bar:
                self._report(self._bar, is_final=True)
                self._bar = None
            self._pending, self._has_returned = "", False

    def _message(self, text: str) -> dict[str, Any]:
        if text.startswith(_ERROR):
            return {"kind": "error", "text": text.removeprefix(_ERROR)}
        return {"kind": "warning" if _WARNING.search(text) else self._kind, "text": text}

    def _report(self, bar: re.Match[str], *, is_final: bool) -> None:
        task, done, total = bar["task"] or "", bar["done"] or bar["count"], bar["total"]
        said_at, said = self._said.get(task, (-PROGRESS_EVERY_S, ""))
        now, state = time.monotonic(), f"{done}/{total}"
        is_due = now - said_at >= PROGRESS_EVERY_S or is_final or done == total
        if is_due and state != said:
            self._said[task] = (now, state)
            counts = {"done": done, "total": total} if total else {"done": done}
            numbers = {name: int(count) if count.isdigit() else count for name, count in counts.items()}
            self._emit({"kind": "progress", "task": task, **numbers, "text": bar["rest"]})


def _write_json(stream: Stream, row: dict[str, Any]) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    stream.write(json.dumps({"time": now, **row}) + "\n")
    stream.flush()


def _write_text(stream: Stream, row: dict[str, Any]) -> None:
    prefix = _ERROR if row["kind"] == "error" else ""
    stream.write(f"{prefix}{row['text']}\n")
    stream.flush()
