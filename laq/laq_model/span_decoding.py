"""Pairs of some stretches of videos, decoded in threads; a video that fails or hangs costs itself only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from .errors import VideoReadError
from .feature_store import Span
from .structures import FramePair
from .video.config import worker_count
from .video.index import VideoEntry, VideoIndex
from .webm_dataset import VideoDataConfig, all_pairs


@dataclass(frozen=True)
class DecodedSpan:
    """Pairs of one span; or none, and why."""

    span: Span
    pairs: Sequence[FramePair]
    reason: str = ""


def count_pairs(entry: VideoEntry, config: VideoDataConfig, *, every_n: int) -> int:
    """How many pairs ``all_pairs`` gives for this video."""
    return -(-(entry.num_frames - config.frame_offset) // every_n)


def decode_spans(
    index: VideoIndex, spans: Sequence[Span], config: VideoDataConfig, *, every_n: int
) -> Iterator[DecodedSpan]:
    """The spans in their order; ``config.num_workers`` threads decode ahead of the reader.

    A decoder that gives no pair for ``config.decoder_patience_s`` is left behind, to end with the process.
    """
    entries = {entry.name: entry for entry in index.videos}
    ahead = worker_count(config.num_workers)
    running: list[_Decoding] = []
    coming = iter(spans)
    while True:
        running += [
            _Decoding(index, entries.get(span.video), span, config, every_n=every_n)
            for span in islice(coming, ahead - len(running))
        ]
        if not running:
            return
        yield running.pop(0).result()


class _Decoding:
    """One span on its way, in a thread of its own."""

    def __init__(
        self,
        index: VideoIndex,
        entry: VideoEntry | None,
        span: Span,
        config: VideoDataConfig,
        *,
        every_n: int,
    ):
        self._span = span
        self._path = index.path(entry) if entry else index.root / span.video
        self._patience_s = config.decoder_patience_s
        self._pairs: list[FramePair] = []
        self._fault: BaseException | None = None
        self._last_sign_s = time.monotonic()
        self._is_done = threading.Event()
        if entry is None:
            self._fault = VideoReadError(f"{self._path}: no longer there, or no longer usable")
            self._is_done.set()
            return

        def decode() -> None:
            try:
                pairs = all_pairs(index, entry, config, every_n=every_n, first_pair=span.first_pair)
                for pair in islice(pairs, span.num_pairs):
                    self._pairs.append(pair)
                    self._last_sign_s = time.monotonic()
                if len(self._pairs) < span.num_pairs:
                    raise VideoReadError(
                        f"{index.path(entry)}: has {len(self._pairs)} of {span.num_pairs} pairs; it changed"
                    )
            except BaseException as error:  # raised in the reader's thread
                self._fault = error
            self._is_done.set()

        # A daemon: a decoder that hangs in C cannot be stopped, and must not keep the process from ending.
        threading.Thread(target=decode, daemon=True).start()

    def result(self) -> DecodedSpan:
        """Wait for it.

        Raises:
            Exception: anything but a video that cannot be read.
        """
        while not self._is_done.wait(max(0.01, self._last_sign_s + self._patience_s - time.monotonic())):
            if time.monotonic() - self._last_sign_s > self._patience_s:
                return DecodedSpan(self._span, (), f"the decoder gave no frame for {self._patience_s:g} s")
        if isinstance(self._fault, VideoReadError):
            # Whoever lists it puts the video's name before the reason.
            return DecodedSpan(self._span, (), str(self._fault).removeprefix(f"{self._path}: "))
        if self._fault is not None:
            raise self._fault
        return DecodedSpan(self._span, self._pairs)
