"""Frames of a video file, by number and exact to the frame.

A frame's number is its place in the order in which the decoder presents all frames. Reading starts at the
nearest earlier keyframe from which the scan of the file got the same pictures as from its start
(``FrameTable.keyframes``), and finds its frames by their time stamps; where there is no such keyframe it
starts at the first frame and counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from ..errors import VideoReadError
from .frame_table import FrameTable


def read_frames(
    path: str | Path, table: FrameTable, frame_indices: Sequence[int]
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """RGB of the frames with these numbers, in the order asked for.

    Raises:
        VideoReadError: a number outside the video, or a frame that the table promises cannot be decoded.
    """
    for index in frame_indices:
        if not 0 <= index < table.num_frames:
            raise VideoReadError(
                f"{path} has {table.num_frames} frames, numbered from 0: there is no frame {index}"
            )
    wanted = set(frame_indices)
    found: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
    if wanted:
        for index, frame in _numbered_frames(path, table, first=min(wanted)):
            if index in wanted:
                found[index] = to_rgb(frame, path)
            if len(found) == len(wanted):
                break
    for index in frame_indices:
        if index not in found:
            raise VideoReadError(
                f"{path}: frame {index} cannot be decoded, though the index knows it; "
                "the file changed or the disk failed"
            )
    return [found[index] for index in frame_indices]


def iterate_frames(
    path: str | Path, table: FrameTable
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """Every frame with its number, decoded once, in order.

    Raises:
        VideoReadError: the file has fewer frames than its table promises.
    """
    count = 0
    for index, frame in _numbered_frames(path, table, first=0):
        if index == table.num_frames:
            break
        yield index, to_rgb(frame, path)
        count = index + 1
    if count < table.num_frames:
        raise VideoReadError(
            f"{path}: frame {count} cannot be decoded, though the index knows {table.num_frames} frames; "
            "the file changed or the disk failed"
        )


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its main video stream, set to one decoding thread.

    Raises:
        VideoReadError: the file cannot be opened, or has no moving pictures.
    """
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoReadError(f"{path}: cannot be opened as a video ({_reason(error)})") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoReadError(f"{path}: holds no video stream")
        stream.thread_type = "NONE"  # work is shared over files; threads inside one only add delay
        yield container, stream


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream, *, damage: list[str] | None = None
) -> Iterator[av.VideoFrame]:
    """All sound frames from the container's place on; what is damaged is left out and told in ``damage``."""
    complaints: list[str] = [] if damage is None else damage
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            complaints.append(f"the file cannot be read to its end ({_reason(error)})")
            return
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError) as error:
            complaints.append(f"a packet cannot be decoded ({_reason(error)})")
            continue
        for frame in frames:
            if frame.is_corrupt:
                complaints.append("the decoder marks a frame as corrupt")
            else:
                yield frame


def to_rgb(frame: av.VideoFrame, path: str | Path) -> UInt8[np.ndarray, "height width 3"]:
    """The frame's colours, turned as a player shows them; without transparency, grey as equal channels.

    Raises:
        VideoReadError: a pixel format that cannot be converted, or a rotation by no multiple of 90 degrees.
    """
    try:
        rgb = frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoReadError(
            f"{path}: pixel format {frame.format.name} cannot be converted to RGB ({_reason(error)})"
        ) from error
    quarter_turns, rest = divmod(frame.rotation, 90)
    if rest:
        raise VideoReadError(
            f"{path}: asks for a rotation by {frame.rotation} degrees; only quarter turns work"
        )
    return np.ascontiguousarray(np.rot90(rgb, quarter_turns))


def _numbered_frames(
    path: str | Path, table: FrameTable, *, first: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers, from a keyframe at or before ``first`` on."""
    place = bisect_right(table.keyframes, first)
    start = int(table.keyframes[place - 1]) if place else 0
    with open_video(path) as (container, stream):
        if start == 0:
            yield from enumerate(decoded_frames(container, stream))
            return
        container.seek(int(table.pts[start]), stream=stream)
        for frame in decoded_frames(container, stream):
            # Frames before the keyframe lack their references; they are not wanted here.
            if frame.pts is None or frame.pts < table.pts[start]:
                continue
            number = bisect_left(table.pts, frame.pts)
            if number < table.num_frames and table.pts[number] == frame.pts:
                yield number, frame


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
