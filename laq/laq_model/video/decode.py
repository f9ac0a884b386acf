"""Frames of a video file, by number and exact to the frame.

A frame's number is its place in the order in which the decoder presents all frames. Reading starts at the
nearest earlier keyframe from which the scan of the file got the same pictures as from its start
(``FrameTable.keyframes``), and finds its frames by their time stamps; where there is no such keyframe it
starts at the first frame and counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from ..errors import VideoReadError
from .frame_table import FrameTable

CUT_PACKET = "a packet is cut"


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
            raise _broken_promise(path, index)
    return [found[index] for index in frame_indices]


def iterate_frames(
    path: str | Path, table: FrameTable, *, first: int = 0
) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
    """Every frame from number ``first`` on, with its number, decoded once, in order.

    Raises:
        VideoReadError: the file has fewer frames than its table promises.
    """
    expected = first
    for index, frame in _numbered_frames(path, table, first=first):
        if index == expected:
            yield index, to_rgb(frame, path)
            expected += 1
        if expected >= table.num_frames:  # the file may go on
            break
    if expected < table.num_frames:
        raise _broken_promise(path, expected)


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its main video stream, set to one decoding thread.

    Raises:
        VideoReadError: the file cannot be opened, or has no moving pictures.
    """
    try:
        # Tags in old code pages are no reason to refuse the pictures.
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise VideoReadError(f"{path}: cannot be opened as a video ({_reason(error)})") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoReadError(f"{path}: holds no video stream")
        # Work is shared over files: threads inside one only add delay.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def decoded_frames(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    faults: list[str] | None = None,
    container_complaint: Callable[[], str] = lambda: "",
) -> Iterator[av.VideoFrame]:
    """Sound frames from the container's place on, up to the first fault after them.

    Pictures after a fault lean on what was lost, and decoders rarely say so; therefore none of them is
    given. Faults before the first sound frame only delay it.

    Args:
        faults: takes what was wrong, in words.
        container_complaint: says, after each packet, what the container's reader logged about it.
    """
    faults = [] if faults is None else faults
    has_begun = False
    packets = container.demux(stream)
    while True:
        num_faults = len(faults)
        frames: list[av.VideoFrame] = []
        try:
            packet = next(packets)
            if complaint := container_complaint() or (CUT_PACKET if packet.is_corrupt else ""):
                faults.append(complaint)
            if len(faults) == num_faults or packet.size == 0:  # the empty last packet asks for late frames
                frames = packet.decode()
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError) as error:
            faults.append(_reason(error))
        for frame in frames:
            if frame.is_corrupt:
                faults.append("a frame is marked as corrupt")
                break
            has_begun = True
            yield frame
        if has_begun and len(faults) > num_faults:
            return


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
    seek_pts = table.pts[table.keyframes[place - 1]] if place else table.start_pts
    with open_video(path) as (container, stream):
        if seek_pts is None:
            for number, frame in enumerate(decoded_frames(container, stream)):
                if number < len(table.pts) and frame.pts != table.pts[number]:
                    raise _broken_promise(path, number)
                yield number, frame
            return
        container.seek(int(seek_pts), stream=stream)
        for frame in decoded_frames(container, stream):
            # A seek may end earlier than asked, so the number comes from the time stamp.
            number = bisect_left(table.pts, frame.pts) if frame.pts is not None else table.num_frames
            if number < table.num_frames and table.pts[number] == frame.pts:
                yield number, frame


def _broken_promise(path: str | Path, frame_index: int) -> VideoReadError:
    return VideoReadError(
        f"{path}: frame {frame_index} cannot be decoded, though the index knows it; "
        "the file changed since, or the disk failed"
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
