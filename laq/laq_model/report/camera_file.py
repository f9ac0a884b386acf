"""The cameras of a scene as JSON that says its own units and frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..scene_observation import SceneObservation
from .output_file import write_file

FORMAT = 1


@dataclass(frozen=True)
class SeenFrame:
    """Which frame of the video a view is.

    Attributes:
        index: counted from 0.
        time_s: after the first frame.
        square_px: left, top and side of the square that was cut out of the video's picture, in its pixels.
        cloud: name of the frame's PLY file.
    """

    index: int
    time_s: float
    square_px: tuple[int, int, int]
    cloud: str


def write_camera_file(
    path: Path, scene: SceneObservation, frames: Sequence[SeenFrame], *, video: str, geometry: str
) -> None:
    """Write the cameras of the first scene.

    Args:
        path: the ``.json`` file.
        scene: what the encoder observed.
        frames: one for each of its views.
        video: name of the file that they come from.
        geometry: where depth and cameras come from.

    Raises:
        RunError: the file cannot be written.
    """
    is_metric = scene.geometry.is_metric
    height, width = scene.is_kept.shape[2:]
    record = {
        "format": FORMAT,
        "video": video,
        "geometry": geometry,
        "units": "metres" if is_metric else "nominal metres: one unknown factor for the whole scene",
        "world": "z against gravity, origin at the median of the scene's points; shared by frames and clouds",
        "camera": "OpenCV: x right, y down, z forward; x_cam = R x_world + t with cam_from_world = [R | t]",
        "pixels": "integer (column, row) centres; intrinsics are for width_px x height_px",
        "width_px": width,
        "height_px": height,
        "frames": [_frame(scene, view, frame) for view, frame in enumerate(frames)],
    }
    write_file(path, json.dumps(record, indent=2) + "\n")


def _frame(scene: SceneObservation, view: int, frame: SeenFrame) -> dict[str, Any]:
    left, top, side = frame.square_px
    return {
        "frame": frame.index,
        "time_s": round(frame.time_s, 6),
        "cut_from_video_px": {"left": left, "top": top, "side": side},
        "intrinsics": _rows(scene.geometry.intrinsics[0, view]),
        "cam_from_world": _rows(scene.geometry.cam_from_world[0, view]),
        "cloud": frame.cloud,
    }


def _rows(matrix: Tensor) -> list[list[float]]:
    """Nine digits give every float32 back."""
    return [[float(f"{value:.9g}") for value in row] for row in matrix.tolist()]
