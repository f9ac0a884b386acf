"""Decode a whole video once: how many frames it truly has, when they are shown, and where one may seek.

A container's own count and duration can be wrong, and counting packets is no better: VP8 stores invisible
frames, and a damaged packet counts like a sound one. So every frame is decoded (not converted: that is the
dearer part). Then seeking is tried at keyframes all along the video; only those that give the same pictures
are kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from ..errors import VideoReadError
from .decode import decoded_frames, open_video, to_rgb
from .frame_table import FrameTable

# Keyframes closer than this to the last one are left out: a reader decodes so few frames quickly.
KEYFRAME_SPACING = 16
# Pictures compared after each seek: enough to see frames that lean on something before the keyframe.
FRAMES_COMPARED = 4


def scan_video(path: str | Path, *, on_frame: Callable[[], None] = lambda: None) -> FrameTable:
    """Decode every frame of the file; ``on_frame`` is called after each.

    Raises:
        VideoReadError: the file cannot be opened, or no frame of it decoded.
    """
    damage: list[str] = []
    time_stamps: list[int | None] = []
    keyframes: list[int] = []
    digests: dict[int, int] = {}
    width = height = 0
    with open_video(path) as (container, stream):
        for number, frame in enumerate(decoded_frames(container, stream, damage=damage)):
            if number == 0:
                height, width = to_rgb(frame, path).shape[:2]
            time_stamps.append(frame.pts)
            if frame.key_frame:
                keyframes.append(number)
            if keyframes and number - keyframes[-1] < FRAMES_COMPARED:
                digests[number] = picture_digest(frame)
            on_frame()
        time_base = Fraction(stream.time_base or 1)
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not time_stamps:
        raise VideoReadError(f"{path}: no frame can be decoded ({damage[0] if damage else 'it has none'})")
    pts = _trusted(time_stamps)
    if not pts and not rate:
        raise VideoReadError(f"{path}: has neither usable time stamps nor a frame rate")
    return FrameTable(
        num_frames=len(time_stamps),
        width=width,
        height=height,
        pts=pts,
        time_base=time_base,
        rate=Fraction(rate or 1),
        # After damage the decoder's memory differs between a seek and a run from the start.
        keyframes=_where_seeking_works(path, pts, _thinned(keyframes), digests, on_frame)
        if pts and not damage
        else [],
        damage=_summed_up(damage),
    )


def picture_digest(frame: av.VideoFrame) -> int:
    """A checksum of the first plane's pixels, without the padding at the end of its rows."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return zlib.crc32(rows[: frame.height, : frame.width].tobytes())


def _trusted(time_stamps: Sequence[int | None]) -> list[int]:
    """The time stamps, or nothing if some are missing or out of order (AVI with B-frames, raw streams)."""
    known = [stamp for stamp in time_stamps if stamp is not None]
    is_increasing = all(a < b for a, b in pairwise(known))
    return known if len(known) == len(time_stamps) and is_increasing else []


def _thinned(keyframes: list[int]) -> list[int]:
    """Keyframes at least ``KEYFRAME_SPACING`` apart; the start needs no seek, so it is never among them."""
    kept = [0]
    for keyframe in keyframes:
        if keyframe - kept[-1] >= KEYFRAME_SPACING:
            kept.append(keyframe)
    return kept[1:]


def _where_seeking_works(
    path: str | Path, pts: list[int], tried: list[int], digests: dict[int, int], on_frame: Callable[[], None]
) -> list[int]:
    """The keyframes after which decoding gives, frame by frame, the pictures of a run from the start."""
    working = []
    number_of = {stamp: number for number, stamp in enumerate(pts)}
    with open_video(path) as (container, stream):
        for keyframe in tried:
            expected = [n for n in range(keyframe, keyframe + FRAMES_COMPARED) if n in digests]
            got = []
            try:
                container.seek(pts[keyframe], stream=stream)
            except (av.error.FFmpegError, OSError):
                continue
            for frame in decoded_frames(container, stream):
                on_frame()
                number = number_of.get(frame.pts)
                if number is not None and number >= keyframe:
                    got.append((number, picture_digest(frame)))
                if len(got) == len(expected):
                    break
            if got == [(number, digests[number]) for number in expected]:
                working.append(keyframe)
    return working


def _summed_up(damage: list[str]) -> str:
    if len(damage) < 2:
        return "".join(damage)
    return f"{damage[0]}, and {len(damage) - 1} more faults"
