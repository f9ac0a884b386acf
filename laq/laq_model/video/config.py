"""Which videos are used, how their frames look, and which two frames make a pair."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import ConfigError

# VGGT's patch, in pixels: a frame is a whole number of patches.
PATCH_SIZE_PX = 14


@dataclass(frozen=True)
class VideoDataConfig:
    """A folder of videos and how pairs are taken from it."""

    data_dir: str = ""
    """Folder of videos, subfolders included; plain, in the recorded layout, or a LeRobot v3.0 dataset
    (docs/data-formats.md)."""
    max_videos: int = 0
    """Use the first N usable videos only; 0 means all."""
    view: str = ""
    """Camera of the recorded layout (fixed, moving, still); empty: all there are. Plain folders have none."""
    camera: str = ""
    """Camera of a LeRobot dataset (observation.images.top, or top); empty: the only one."""
    frame_size: int = 224
    """Side of the square frames, in pixels; a multiple of 14."""
    frame_offset: int = 5
    """Frames from the current to the future frame of a pair."""
    held_out_fraction: float = 0.1
    """Share of the videos that training never sees, chosen by a hash of their names."""
    num_workers: int = 0
    """Processes that index videos and threads that decode pairs; 0: one for each core."""
    decoder_patience_s: float = 60.0
    """Seconds without a new frame after which indexing gives a video up."""

    def __post_init__(self) -> None:
        if self.frame_size < PATCH_SIZE_PX or self.frame_size % PATCH_SIZE_PX:
            nearest = max(1, round(self.frame_size / PATCH_SIZE_PX)) * PATCH_SIZE_PX
            raise ConfigError(
                f"frame_size must be a positive multiple of {PATCH_SIZE_PX} (VGGT's patch), "
                f"got {self.frame_size}; the nearest is {nearest}"
            )
        if self.frame_offset < 1:
            raise ConfigError(f"frame_offset must be at least 1 frame, got {self.frame_offset}")
        if not 0 < self.held_out_fraction < 1:
            raise ConfigError(
                f"held_out_fraction must lie between 0 and 1, without either, got {self.held_out_fraction}"
            )
        for name in ("max_videos", "num_workers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.decoder_patience_s <= 0:
            raise ConfigError(f"decoder_patience_s must be positive, got {self.decoder_patience_s}")


def worker_count(num_workers: int) -> int:
    """The number of workers that ``num_workers`` asks for; 0 means the cores this process may use."""
    if num_workers:
        return num_workers
    affinity = getattr(os, "sched_getaffinity", None)  # only Linux has it
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
