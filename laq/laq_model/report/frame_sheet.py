"""One frame on a sheet: the picture, what the geometry says of it, and the cloud that the network reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..scene_observation import SceneObservation
from .changed_cells import view_of_point
from .output_file import write_file
from .pointcloud_view import draw_cloud, half_width, point_size_for, sides_of
from .sheet import INK, MUTED, Colour, Sheet

IN_CLOUD = "points of the cloud"


def unit_of(scene: SceneObservation) -> str:
    """The unit of the scene's levelled world, as written on pictures."""
    return "m" if scene.geometry.is_metric else "nominal m"


def point_counts(scene: SceneObservation, view: int, *, half_extent_m: float) -> dict[str, int]:
    """What became of the pixels of one view of a scene; the numbers add up to its pixels."""
    has_depth, is_kept = scene.geometry.depth[0, view] > 0, scene.is_kept[0, view]
    point_map = scene.point_map_m[0, view]
    is_inside = is_kept & ((point_map >= -half_extent_m) & (point_map < half_extent_m)).all(dim=-1)
    num_points = int((view_of_point(scene) == view).sum())
    return {
        IN_CLOUD: num_points,
        "no depth": int((~has_depth).sum()),
        "low confidence or depth edge": int((has_depth & ~is_kept).sum()),
        "outside the box": int((is_kept & ~is_inside).sum()),
        "same voxel, or above max_points": int(is_inside.sum()) - num_points,
    }


def write_frame_sheet(
    path: Path,
    scene: SceneObservation,
    *,
    view: int,
    title: str,
    config: EncoderConfig,
) -> None:
    """Write the PNG of one view of the first scene.

    Args:
        path: replaced in one step.
        scene: what the encoder observed.
        view: which of the scene's frames.
        title: which video and frame it is.
        config: the encoder's, for its box and voxels.

    Raises:
        RunError: the file cannot be written.
    """
    unit = unit_of(scene)
    geometry = scene.geometry
    depth, confidence = _array(geometry.depth[0, view]), _array(geometry.confidence[0, view])
    sheet = Sheet(title, rows=2, columns=4)
    sheet.image("frame, as the networks see it", _array(scene.color[0, view]))
    sheet.map("depth", depth, is_valid=depth > 0, unit=f"along the optical axis, {unit}", colours="viridis_r")
    sheet.map("confidence", confidence, is_valid=depth > 0, unit="larger is surer, no unit", colours="magma")
    sheet.image("normals (RGB: right, away, up)", _normal_colors(scene, view))

    is_own = view_of_point(scene) == view
    coord, color = scene.cloud.coord_m.cpu()[is_own], scene.cloud.color.cpu()[is_own]
    sides = sides_of(geometry.cam_from_world[0, view])
    width = half_width(coord, sides)
    point_size = point_size_for(len(coord), half_width=width, smallest=config.voxel_size_m)
    for side in sides:
        picture = draw_cloud(coord, color, side, half_width=width, point_size=point_size)
        sheet.cloud(picture, side, half_width=width, unit=unit)
    counts = point_counts(scene, view, half_extent_m=config.half_extent_m)
    height, columns = depth.shape
    lines: list[tuple[str, str, Colour]] = [(f"{height * columns}", f"pixels ({columns} × {height})", INK)]
    lines.append((f"{counts.pop(IN_CLOUD)}", IN_CLOUD, INK))
    lines += [("", "", INK), ("", "dropped", INK)]
    lines += [(f"{number}", reason, MUTED) for reason, number in counts.items()]
    sheet.text("points", [*lines, ("", "", INK), *_notes(scene)])
    write_file(path, sheet.png())


def _notes(scene: SceneObservation) -> list[tuple[str, str, Colour]]:
    if scene.geometry.is_metric:
        return [("", "depth and cameras as recorded, in metres", MUTED)]
    return [
        ("", "depth and cameras predicted from the video:", MUTED),
        ("", "the scale is nominal (most points fit ±1 m),", MUTED),
        ("", "and the first camera counts as level", MUTED),
    ]


def _normal_colors(scene: SceneObservation, view: int) -> np.ndarray:
    """(n + 1) / 2 along the camera's right, heading and up; grey where no normal is defined."""
    _, side, top = sides_of(scene.geometry.cam_from_world[0, view])
    axes = np.stack([top.right, side.right, side.up])
    normal = _array(scene.normal[0, view])
    colors = (normal @ axes.T + 1) / 2
    return np.where((normal == 0).all(axis=-1, keepdims=True), 0.85, colors)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()
