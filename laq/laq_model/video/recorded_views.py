"""Frames of a recorded video as depth and cameras, on the square that the network sees.

Depth is never interpolated: a mean of a near and a far surface lies on neither. Pixels are picked, and the
intrinsics follow the picked pixels exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import DatasetError
from ..structures import DepthAndCameras
from .recorded_geometry import (
    METRES_PER_MILLIMETRE,
    RecordedFolder,
    episode_name,
    has_geometry,
    read_cameras,
    read_depth_mm,
    view_name,
)


def read_sensor(
    folder: RecordedFolder, video: str, frame_indices: Sequence[int], *, frame_size: int
) -> DepthAndCameras | None:
    """One scene of the video's frames with these numbers, or None where no geometry was recorded.

    Depth covers the same middle square as ``square_frame``; it keeps its own pixels, or every n-th where at
    least ``frame_size`` of them remain.

    Raises:
        DatasetError: files are missing or damaged, or do not fit the video.
    """
    view, episode = view_name(video), episode_name(video)
    if not has_geometry(folder.data_dir, view, episode):
        return None
    depth_mm = read_depth_mm(folder.data_dir, view, episode)
    cameras = read_cameras(folder.data_dir, view, episode)
    for what, found in (("depth", len(depth_mm)), ("cameras", len(cameras.cam_from_world))):
        if found != folder.num_frames[episode]:
            raise DatasetError(
                f"{folder.data_dir}: {what} of {video} has {found} frames, "
                f"index.json says {folder.num_frames[episode]}"
            )
    reduction = _reduction(depth_mm.shape[1:], folder, video)
    side = min(folder.height, folder.width)
    rows = _square_pixels(folder.height, side, reduction, frame_size)
    columns = _square_pixels(folder.width, side, reduction, frame_size)
    chosen = list(frame_indices)
    depth = torch.from_numpy(depth_mm[chosen][:, rows.as_slice, columns.as_slice].astype(np.float32))
    depth *= METRES_PER_MILLIMETRE
    # Picked pixel i is the recorded image's pixel first + i · step, so u becomes (u − first) / step, exactly.
    first = np.array([columns.first_px, rows.first_px])
    step = np.array([columns.step_px, rows.step_px])
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:2, 2] -= first
    intrinsics[:2] /= step[:, None]
    return DepthAndCameras(
        depth=depth[None],
        confidence=(depth > 0).float()[None],
        intrinsics=torch.from_numpy(intrinsics).float().expand(1, len(chosen), 3, 3),
        cam_from_world=torch.from_numpy(cameras.cam_from_world[chosen, :3]).float()[None],
        world_up=torch.tensor([folder.world_up]),
        is_metric=True,
    )


@dataclass(frozen=True)
class _PickedPixels:
    """Rows or columns of a depth map that are used, and where they lie in the recorded image.

    Attributes:
        as_slice: in the depth map.
        first_px: the first one, in pixels of the recorded image.
        step_px: distance of neighbours, in pixels of the recorded image.
    """

    as_slice: slice
    first_px: int
    step_px: int


def _square_pixels(extent: int, side: int, reduction: int, frame_size: int) -> _PickedPixels:
    """The stored pixels along one axis that lie in the middle ``side`` pixels of ``extent``."""
    start = (extent - side) // 2
    # Ceiling division: the first block whose kept pixel does not lie before the crop.
    first = -((reduction // 2 - start) // reduction)
    count = side // reduction
    # Fewer pixels only where whole blocks of them fill the square, so that its border stays the border.
    thinning = max(n for n in range(1, max(1, count // frame_size) + 1) if count % n == 0)
    begin = first + thinning // 2
    return _PickedPixels(
        as_slice=slice(begin, first + count, thinning),
        first_px=begin * reduction + reduction // 2,
        step_px=thinning * reduction,
    )


def _reduction(stored: Sequence[int], folder: RecordedFolder, video: str) -> int:
    """How many pixels of the recorded image one depth pixel stands for, in each direction."""
    extents = (folder.height, folder.width)
    for reduction in range(1, min(extents) + 1):
        if tuple(stored) == tuple(len(range(reduction // 2, extent, reduction)) for extent in extents):
            return reduction
    raise DatasetError(
        f"{folder.data_dir}: depth of {video} has {stored[0]}x{stored[1]} pixels; expected "
        f"{folder.height}x{folder.width} as index.json says, or the middle one of every r pixels "
        "in both directions (docs/data-formats.md)"
    )
