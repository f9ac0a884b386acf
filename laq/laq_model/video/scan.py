"""Decode a whole video once: how many frames it truly has, when they are shown, and where one may seek.

A container's own count and duration can be wrong, and a damaged packet counts like a sound one. So every
frame is decoded (not converted: that is the dearer part). Then seeking is tried at keyframes all along the
video; only those that give the same pictures are kept. What no decoder notices, a scan cannot know either:
VP8, VP9 and, about every second time, H.264 make some picture of any bytes inside a frame.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.logging
import numpy as np

from ..errors import VideoReadError
from .decode import CUT_PACKET, decoded_frames, open_video, to_rgb
from .frame_table import FrameTable

# Keyframes closer than this to the last one are left out: a reader decodes so few frames quickly.
KEYFRAME_SPACING = 16
# Pictures compared after each seek: enough to see frames that lean on something before the keyframe.
FRAMES_COMPARED = 4
# What FFmpeg logs where a file simply stops.
CUT_OFF = "File ended prematurely"


def scan_video(path: str | Path, *, on_frame: Callable[[], None] = lambda: None) -> FrameTable:
    """Decode the file's frames up to its first fault; ``on_frame`` is called after each.

    It listens to FFmpeg's log, which is one for the whole process: run it where nothing else decodes.

    Raises:
        VideoReadError: the file cannot be opened, or no frame of it decoded.
    """
    faults: list[str] = []
    frames: list[_SeenFrame] = []
    has_complained = False  # about a frame that is used
    with listening_to_decoder() as log, open_video(path) as (container, stream):
        log.clear()  # complaints about headers are common and do no harm
        reader = container.format.name
        for frame in decoded_frames(
            container, stream, faults=faults, container_complaint=lambda: _complaint_of(log, reader)
        ):
            if not frames:
                height, width = to_rgb(frame, path).shape[:2]
            frames.append(_seen(frame, frames))
            has_complained = has_complained or bool(log)
            on_frame()
        has_complained = has_complained or bool(log and not faults)
        complaint = _complaint_of(log)
        time_base = Fraction(stream.time_base or 1)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if faults and not faults[-1].endswith((CUT_OFF, CUT_PACKET)):
        frames = frames[:-1]  # the damaged bytes may begin in the packet before, where nothing noticed them
    if not frames:
        raise VideoReadError(f"{path}: no frame can be decoded ({faults[0] if faults else 'it has none'})")
    pts = _trusted([frame.pts for frame in frames])
    if not pts and not rate:
        raise VideoReadError(f"{path}: has neither usable time stamps nor a frame rate")
    # A decoder that complains may show other pictures after a seek than in a run from the start.
    can_seek = pts and not has_complained
    return FrameTable(
        num_frames=len(frames),
        width=width,
        height=height,
        pts=pts,
        time_base=time_base,
        rate=Fraction(rate or 1),
        keyframes=_where_seeking_works(path, pts, frames, on_frame) if can_seek else array("q"),
        damage=_in_words(len(frames), faults, complaint),
    )


@dataclass(frozen=True)
class _SeenFrame:
    """A frame of a scan: its time stamp, the number of the last keyframe, and a digest soon after that."""

    pts: int | None
    last_keyframe: int
    digest: int | None


def _seen(frame: av.VideoFrame, before: Sequence[_SeenFrame]) -> _SeenFrame:
    number = len(before)
    last_keyframe = number if frame.key_frame or not before else before[-1].last_keyframe
    is_compared = number - last_keyframe < FRAMES_COMPARED
    return _SeenFrame(frame.pts, last_keyframe, picture_digest(frame) if is_compared else None)


@contextmanager
def listening_to_decoder() -> Iterator[list[tuple[int, str, str]]]:
    """What FFmpeg reports as errors: (level, who, message); the list grows while frames are decoded."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def picture_digest(frame: av.VideoFrame) -> int:
    """A checksum of the first plane's pixels, without the padding at the end of its rows."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return zlib.crc32(rows[: frame.height, : frame.width].tobytes())


def _trusted(time_stamps: Sequence[int | None]) -> array:
    """The time stamps, or nothing if some are missing or out of order (AVI with B-frames, raw streams)."""
    known = array("q", [stamp for stamp in time_stamps if stamp is not None])
    is_increasing = all(a < b for a, b in pairwise(known))
    return known if len(known) == len(time_stamps) and is_increasing else array("q")


def _where_seeking_works(
    path: str | Path, pts: Sequence[int], frames: Sequence[_SeenFrame], on_frame: Callable[[], None]
) -> array:
    """The keyframes after which decoding gives, frame by frame, the pictures of a run from the start."""
    working = array("q")
    with open_video(path) as (container, stream):
        for keyframe in _thinned(frames):
            compared = range(keyframe, min(keyframe + FRAMES_COMPARED, len(frames)))
            expected = [(pts[number], frames[number].digest) for number in compared]
            got = []
            try:
                container.seek(pts[keyframe], stream=stream)
            except (av.error.FFmpegError, OSError):
                continue
            for frame in decoded_frames(container, stream):
                on_frame()
                if frame.pts is not None and frame.pts >= pts[keyframe]:
                    got.append((frame.pts, picture_digest(frame)))
                if len(got) == len(expected):
                    break
            if got == expected:
                working.append(keyframe)
    return working


def _thinned(frames: Sequence[_SeenFrame]) -> list[int]:
    """Keyframes ``KEYFRAME_SPACING`` apart or more; the start needs no seek, so it is never among them."""
    kept = [0]
    for keyframe in sorted({frame.last_keyframe for frame in frames}):
        if keyframe - kept[-1] >= KEYFRAME_SPACING:
            kept.append(keyframe)
    return kept[1:]


def _complaint_of(log: Sequence[tuple[int, str, str]], who: str = "") -> str:
    """The first error that was logged, by one reporter or any; empty if there is none."""
    return next((f"{name}: {text.strip()}" for _, name, text in log if who in ("", name)), "")


def _in_words(num_frames: int, faults: Sequence[str], complaint: str) -> str:
    if faults:
        detail = f"; {complaint}" if complaint not in ("", faults[-1]) else ""
        sound = "frame is" if num_frames == 1 else f"{num_frames} frames are"
        return f"only the first {sound} sound ({faults[-1]}{detail})"
    return f"the decoder complains ({complaint})" if complaint else ""
