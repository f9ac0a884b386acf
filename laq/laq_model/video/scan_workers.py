"""Scan videos in parallel, in other processes: a decoder that hangs or crashes costs its video only.

Each worker is ``python -m laq_model.video.scan_workers``. It reads one path a line (JSON) and answers with
lines: ``null`` when it is ready and as a sign of life, then the frame table or the reason why there is none.
Processes that Python's multiprocessing starts would need a guarded main module, and could not be ended one by
one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..errors import VideoReadError
from .frame_table import FrameTable
from .scan import scan_video

SIGN_OF_LIFE_S = 0.5


def scan_videos(
    paths: Sequence[Path], *, workers: int, patience_s: float
) -> Generator[FrameTable | VideoReadError, None, None]:
    """The frame table of every video, or why it has none; in the order of ``paths``, whatever the workers do.

    Args:
        patience_s: seconds without a new frame after which a decoder counts as hanging and is ended.
    """
    pool = [_Worker(patience_s) for _ in range(min(workers, len(paths)))]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in pool:
        idle.put(worker)

    def scan(path: Path) -> FrameTable | VideoReadError:
        worker = idle.get()
        try:
            return worker.scan(path)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(max_workers=max(1, len(pool)))
    pending: deque[Future[FrameTable | VideoReadError]] = deque()
    try:
        for path in paths:
            pending.append(threads.submit(scan, path))
            if len(pending) > 4 * len(pool):  # only a little ahead of a reader that may stop early
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for worker in pool:
            worker.stop()
        threads.shutdown()
        for worker in pool:
            worker.end()


def scan_one_video(path: str | Path, *, patience_s: float = 60.0) -> FrameTable:
    """The frame table of one video.

    Raises:
        VideoReadError: it cannot be opened or decoded.
    """
    (result,) = scan_videos([Path(path)], workers=1, patience_s=patience_s)
    if isinstance(result, VideoReadError):
        raise result
    return result


class _Worker:
    """One scanning process, started when first needed and again after it had to be ended."""

    def __init__(self, patience_s: float):
        self._patience_s = patience_s
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def scan(self, path: Path) -> FrameTable | VideoReadError:
        if self._is_stopped:
            return VideoReadError(f"{path}: indexing was stopped")
        if self._process is None:
            self._process = _start_process()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        is_late = threading.Event()

        def end_late_process() -> None:
            is_late.set()
            process.kill()

        try:
            process.stdin.write(json.dumps(str(path)) + "\n")
            process.stdin.flush()
            answer = None
            while answer is None:
                clock = threading.Timer(self._patience_s, end_late_process)
                clock.start()
                answer = json.loads(process.stdout.readline() or '{"ended": true}')
                clock.cancel()
        except OSError:  # the pipe to a process that has died
            answer = {"ended": True}
        if "ended" in answer:
            self.end()
            late = f"the decoder gave no frame for {self._patience_s:g} s"
            return VideoReadError(f"{path}: {late if is_late.is_set() else 'the decoder crashed'}")
        return VideoReadError(answer["reason"]) if "reason" in answer else _from_json(answer)

    def stop(self) -> None:
        """Break off what is being scanned, from another thread."""
        self._is_stopped = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Leave no process and no pipe behind."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def _start_process() -> subprocess.Popen[str]:
    """A worker that has made its imports, or has failed to: its first line says that it is ready."""
    source_root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join([source_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "laq_model.video.scan_workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders print there what the frame table says better
        env={**os.environ, "PYTHONPATH": search_path},
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def _to_json(table: FrameTable) -> dict[str, Any]:
    arrays = {name: getattr(table, name).tolist() for name in ("pts", "keyframes")}
    fractions = {name: str(getattr(table, name)) for name in ("time_base", "rate")}
    return {**vars(table), **arrays, **fractions}


def _from_json(values: dict[str, Any]) -> FrameTable:
    arrays = {name: array("q", values[name]) for name in ("pts", "keyframes")}
    fractions = {name: Fraction(values[name]) for name in ("time_base", "rate")}
    return FrameTable(**{**values, **arrays, **fractions})


def _serve() -> None:
    """Answer paths until the input ends; runs in the worker process."""
    print("null", flush=True)
    for line in sys.stdin:
        last_sign = time.monotonic()

        def give_sign() -> None:
            nonlocal last_sign
            if time.monotonic() - last_sign > SIGN_OF_LIFE_S:
                last_sign = time.monotonic()
                print("null", flush=True)

        try:
            answer = _to_json(scan_video(json.loads(line), on_frame=give_sign))
        except VideoReadError as error:
            answer = {"reason": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
