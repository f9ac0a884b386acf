"""Which of a view's planned cameras films the episode: the first that sees the hand most of the time.

Somebody who films a robot stands where its hand is to be seen; random places often lie behind a door or a
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .camera_paths import CameraPath

NUM_CANDIDATES = 8
ENOUGH = 0.85  # of the frames looked at
FRAME_STEP = 4  # every n-th frame is looked at
HAND_RADIUS_M = 0.08  # fingers and palm lie this near to the point between the fingers


def choose_path(
    candidates: Sequence[CameraPath],
    *,
    hand_m: NDArray[np.float64],
    draw_depth: Callable[[CameraPath, int], NDArray[np.float32]],
    size: int,
) -> CameraPath:
    """The first candidate that sees the hand in ``ENOUGH`` of the frames, else the one that sees it most.

    Args:
        hand_m: [frames, 3], world metres, in the state that each frame shows.
        draw_depth: depth in metres, [depth_size, depth_size], of a candidate's frame.
        size: of the pictures that the candidates' intrinsics belong to.
    """
    best, best_share = candidates[0], -1.0
    for path in candidates:
        frames = range(0, len(hand_m), FRAME_STEP)
        seen = [sees(path, frame, hand_m[frame], draw_depth(path, frame), size=size) for frame in frames]
        share = float(np.mean(seen))
        if share >= ENOUGH:
            return path
        if share > best_share:
            best, best_share = path, share
    return best


def sees(
    path: CameraPath, frame: int, point_m: NDArray[np.float64], depth_m: NDArray[np.float32], *, size: int
) -> bool:
    """Whether a point lies in the picture, and nothing much nearer lies before it."""
    in_camera = path.cam_from_world[frame] @ np.append(point_m, 1.0)
    if in_camera[2] <= 0:
        return False
    column, row, scale = path.intrinsics @ in_camera[:3]
    # The pixel of the (smaller) depth map: the picture's border stays the border.
    pixel = (np.array([row, column]) / scale + 0.5) * (len(depth_m) / size)
    if (pixel < 0).any() or (pixel >= len(depth_m)).any():
        return False
    return bool(depth_m[int(pixel[0]), int(pixel[1])] > in_camera[2] - HAND_RADIUS_M)
