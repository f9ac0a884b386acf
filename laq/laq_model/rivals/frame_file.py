"""Every frame of some videos, square and small, in one file that is read at random, so decoded only once.

frames.npy     uint8 [frames, side, side, 3], the videos one after the other
frames.json    which videos, how many frames of each
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from ..durable_files import new_folder
from ..errors import RunError
from ..video.config import worker_count
from ..video.decode import iterate_frames
from ..video.index import VideoEntry, VideoIndex
from ..video.square import square_frame

FRAMES_FILE, ABOUT_FILE = "frames.npy", "frames.json"


class FrameFile:
    """Frames by (video number, frame number)."""

    def __init__(self, folder: Path, num_frames: Sequence[int]):
        self._frames = np.load(folder / FRAMES_FILE, mmap_mode="r")
        self._first = [0, *accumulate(num_frames)]

    def pairs(
        self, starts: Sequence[tuple[int, int]], *, frame_offset: int
    ) -> UInt8[Tensor, "pairs 2 height width 3"]:
        """The pairs that start at these (video number, frame number)."""
        current = np.array([self._first[video] + frame for video, frame in starts])
        return torch.from_numpy(self._frames[np.stack([current, current + frame_offset], axis=1)])


def open_frame_file(
    folder: Path, index: VideoIndex, videos: Sequence[VideoEntry], *, side: int, num_workers: int = 0
) -> FrameFile:
    """Open the file of these videos, and write it first if it is not there, or of other ones.

    Raises:
        VideoReadError: a frame that the index promised cannot be decoded.
        RunError: the disk is full or not writable.
    """
    counts = [entry.num_frames for entry in videos]
    about = {
        "side": side,
        "videos": [[entry.name, count] for entry, count in zip(videos, counts, strict=True)],
    }
    file = folder / ABOUT_FILE
    if not (file.is_file() and json.loads(file.read_text()) == about):
        try:
            with new_folder(folder) as temporary:
                _write(temporary / FRAMES_FILE, index, videos, side=side, num_workers=num_workers)
                (temporary / ABOUT_FILE).write_text(json.dumps(about))
        except OSError as error:
            raise RunError(
                f"cannot write {folder} ({error.strerror}); free space, or choose another --output_dir"
            ) from error
    return FrameFile(folder, counts)


def square_frames(
    index: VideoIndex, entry: VideoEntry, *, side: int
) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    """All frames of a video, square and of this size.

    Raises:
        VideoReadError: a frame that the index promised cannot be decoded.
    """
    for _, rgb in iterate_frames(index.path(entry), entry.frames):
        yield square_frame(rgb, side)


def _write(
    file: Path, index: VideoIndex, videos: Sequence[VideoEntry], *, side: int, num_workers: int
) -> None:
    first = [0, *accumulate(entry.num_frames for entry in videos)]
    frames = np.lib.format.open_memmap(
        file, mode="w+", dtype=np.uint8, shape=(first[-1], side, side, 3), version=(1, 0)
    )

    def decode(number: int) -> int:
        for place, frame in enumerate(square_frames(index, videos[number], side=side), first[number]):
            frames[place] = frame
        return videos[number].num_frames

    with (
        tqdm(total=first[-1], desc="frames", unit="frame") as progress,
        ThreadPoolExecutor(worker_count(num_workers)) as threads,
    ):
        for count in threads.map(decode, range(len(videos))):
            progress.update(count)
    frames.flush()
