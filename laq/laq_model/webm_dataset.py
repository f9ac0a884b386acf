"""A folder of videos (.webm, .mp4, ...) as pairs of frames, with depth and cameras where recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from .errors import ConfigError, DatasetError
from .geometry_source import join_scenes
from .structures import DepthAndCameras, FramePair
from .video.config import VideoDataConfig, worker_count
from .video.decode import iterate_frames, read_frames
from .video.index import VideoEntry, VideoIndex
from .video.pairs import PairPlan, split_videos
from .video.recorded_views import read_sensor
from .video.square import square_frame

__all__ = ["PairBatch", "PairDataset", "VideoDataConfig", "all_pairs", "collate"]

Split = Literal["train", "held_out"]


@dataclass(frozen=True)
class PairBatch:
    """Pairs of equal size, one after the other.

    Attributes:
        frames: RGB, current first.
        sensor: one scene of two views for each pair, or None if nothing was recorded.
    """

    frames: UInt8[Tensor, "pairs 2 height width 3"]
    sensor: DepthAndCameras | None


class PairDataset:
    """The numbered pairs of one side of the split.

    In training an index stands for a short stretch of a video, and (seed, epoch, index) decide where in it
    the pair starts. Held-out pairs are all there are, one at each possible start, the same in every epoch.

    Args:
        with_sensor: read depth and cameras where they were recorded; False spares the time if nobody looks.

    Raises:
        DatasetError: too few videos to have this side.
    """

    def __init__(
        self,
        index: VideoIndex,
        config: VideoDataConfig,
        *,
        split: Split = "train",
        seed: int = 0,
        with_sensor: bool = True,
    ):
        if split not in ("train", "held_out"):
            raise ConfigError(f"split must be train or held_out, got {split!r}")
        train, held_out = split_videos((entry.name for entry in index.videos), config.held_out_fraction)
        chosen = train if split == "train" else held_out
        self._videos = [entry for entry in index.videos if entry.name in chosen]
        if not self._videos:
            raise DatasetError(
                f"{index.root} has usable videos of one episode only ({index.videos[0].name}); "
                "at least two are needed, because training holds one out"
            )
        self._index = index
        self._config = config
        self._seed = seed
        self._with_sensor = with_sensor
        self._plan = PairPlan(
            [entry.num_frames - config.frame_offset for entry in self._videos],
            stretch=config.frame_offset if split == "train" else 1,
        )

    def __len__(self) -> int:
        return len(self._plan)

    def get(self, epoch: int, index: int) -> FramePair:
        """The pair with this number, decoded; the same arguments give the same pair on every machine.

        Raises:
            VideoReadError: a frame that the index promised cannot be decoded.
            IndexError: there is no such pair.
        """
        video, start = self._plan.draw(index, seed=self._seed, epoch=epoch)
        entry = self._videos[video]
        numbers = (start, start + self._config.frame_offset)
        frames = read_frames(self._index.path(entry), entry.frames, numbers)
        squares = [square_frame(rgb, self._config.frame_size) for rgb in frames]
        sensor = _sensor(self._index, entry, self._config, numbers) if self._with_sensor else None
        return _pair(entry, numbers, squares, sensor)

    def get_many(self, picks: Sequence[tuple[int, int]]) -> list[FramePair]:
        """The pairs of (epoch, index) picks, in their order, decoded by ``num_workers`` threads."""
        workers = min(worker_count(self._config.num_workers), len(picks))
        if workers < 2:
            return [self.get(epoch, index) for epoch, index in picks]
        with ThreadPoolExecutor(workers) as threads:
            return list(threads.map(lambda pick: self.get(*pick), picks))

    def manifest(self) -> dict[str, Any]:
        """Videos of this side, and all files that were skipped or are damaged, for the record of a run."""
        return {
            "data_dir": str(self._index.root),
            "videos": {entry.name: entry.num_frames for entry in self._videos},
            "skipped": {video.name: video.reason for video in self._index.skipped},
            "damaged": {e.name: e.frames.damage for e in self._index.videos if e.frames.damage},
        }


def collate(pairs: Sequence[FramePair]) -> PairBatch:
    """Stack pairs.

    Raises:
        DatasetError: only some have recorded geometry, or their depth maps differ in size.
    """
    frames = torch.stack([pair.frames for pair in pairs])
    sensors = [pair.sensor for pair in pairs if pair.sensor is not None]
    if not sensors:
        return PairBatch(frames, None)
    if len(sensors) < len(pairs):
        missing = next(pair.video for pair in pairs if pair.sensor is None)
        raise DatasetError(f"{missing} has no recorded depth and cameras, but other videos of the folder do")
    sizes = {tuple(sensor.depth.shape[-2:]): pair.video for pair, sensor in zip(pairs, sensors, strict=True)}
    if len(sizes) > 1:
        raise DatasetError(
            "depth maps of one folder must have one size: "
            + ", ".join(f"{name} has {height}x{width}" for (height, width), name in sizes.items())
        )
    return PairBatch(frames, join_scenes(sensors))


def all_pairs(
    index: VideoIndex,
    entry: VideoEntry,
    config: VideoDataConfig,
    *,
    every_n: int = 1,
    first_pair: int = 0,
    with_sensor: bool = True,
) -> Iterator[FramePair]:
    """Every pair of a video that starts at frame 0, every_n, 2 · every_n, ...; the video is decoded once.

    The first ``first_pair`` of them are left out, without decoding the video from its start where seeking
    works. ``with_sensor=False`` leaves recorded geometry unread.

    Raises:
        VideoReadError: a frame that the index promised cannot be decoded.
    """
    offset = config.frame_offset
    waiting: deque[tuple[int, np.ndarray]] = deque()  # frames whose partner is still to come
    first = first_pair * every_n
    for number, rgb in iterate_frames(index.path(entry), entry.frames, first=first):
        is_future = number >= first + offset and (number - offset) % every_n == 0
        is_current = number % every_n == 0 and number + offset < entry.num_frames
        if not (is_current or is_future):
            continue
        square = square_frame(rgb, config.frame_size)
        if is_current:
            waiting.append((number, square))
        if is_future:
            start, current = waiting.popleft()
            sensor = _sensor(index, entry, config, (start, number)) if with_sensor else None
            yield _pair(entry, (start, number), [current, square], sensor)


def _sensor(
    index: VideoIndex, entry: VideoEntry, config: VideoDataConfig, numbers: tuple[int, int]
) -> DepthAndCameras | None:
    if index.recorded is None:
        return None
    return read_sensor(index.recorded, entry.name, numbers, frame_size=config.frame_size)


def _pair(
    entry: VideoEntry,
    numbers: tuple[int, int],
    squares: Sequence[UInt8[np.ndarray, "height width 3"]],
    sensor: DepthAndCameras | None,
) -> FramePair:
    current, future = numbers
    return FramePair(
        video=entry.name,
        current_index=current,
        future_index=future,
        current_time_s=entry.frames.time_s(current),
        future_time_s=entry.frames.time_s(future),
        frames=torch.from_numpy(np.stack(squares)),
        sensor=sensor,
    )
