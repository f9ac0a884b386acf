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
    extents = (folder.height, folder.width)
    stored = depth_mm.shape[1:]
    if not all(stored) or abs(stored[1] - stored[0] * folder.width / folder.height) >= 1:
        raise DatasetError(
            f"{folder.data_dir}: depth of {video} is {stored[1]}x{stored[0]} pixels, another shape than "
            f"the {folder.width}x{folder.height} image of index.json (docs/data-formats.md)"
        )
    rows, columns = (
        _pick(pixels, image_px=extent, side_px=min(extents), frame_size=frame_size)
        for pixels, extent in zip(stored, extents, strict=True)
    )
    chosen = list(frame_indices)
    depth = torch.from_numpy(depth_mm[chosen][:, rows.as_slice, columns.as_slice].astype(np.float32))
    depth *= METRES_PER_MILLIMETRE
    intrinsics = np.diag([columns.scale, rows.scale, 1.0]) @ cameras.intrinsics
    intrinsics[:2, 2] += (columns.shift, rows.shift)
    return DepthAndCameras(
        depth=depth[None],
        confidence=(depth > 0).float()[None],
        intrinsics=torch.from_numpy(intrinsics).float().expand(1, len(chosen), 3, 3),
        cam_from_world=torch.from_numpy(cameras.cam_from_world[chosen, :3]).float()[None],
        world_up=torch.tensor([folder.world_up]),
        is_metric=True,
    )


@dataclass(frozen=True)
class _Picked:
    """Rows or columns of a depth map that are used; the image's u becomes ``scale`` · u + ``shift``."""

    as_slice: slice
    scale: float
    shift: float


def _pick(pixels: int, *, image_px: int, side_px: int, frame_size: int) -> _Picked:
    """The depth pixels of one axis in the middle ``side_px`` of ``image_px``; the map covers the whole image.

    Fewer pixels only where whole blocks of them fill the square, so that its border stays the border.
    """
    scale = pixels / image_px
    first = round((image_px - side_px) // 2 * scale)
    count = round(side_px * scale)
    step = max(n for n in range(1, max(1, count // frame_size) + 1) if count % n == 0)
    begin = first + step // 2
    # The map's own pixel is (u + 0.5) · scale − 0.5 (docs/conventions.md); every step-th is picked.
    return _Picked(
        as_slice=slice(begin, first + count, step),
        scale=scale / step,
        shift=(0.5 * scale - 0.5 - begin) / step,
    )
