"""A software picture of a cloud: orthographic, z-buffered splats, without OpenGL.

Three sides of a levelled world (z up), all with one origin and one scale: the front as the camera sees it,
the side from the camera's right hand, and the top with the camera's heading up the page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

BACKGROUND = (0.96, 0.96, 0.97)  # so that white points still show
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Side:
    """Where a picture is taken from: ``right`` and ``up`` on the page, as unit vectors of the world.

    right × up points at the viewer.
    """

    name: str
    right: Float[np.ndarray, " 3"]
    up: Float[np.ndarray, " 3"]
    right_label: str
    up_label: str


def sides_of(cam_from_world: Float[Tensor, "3 4"]) -> tuple[Side, Side, Side]:
    """Front, side and top for a camera in a world whose z is up (OpenCV axes: x right, y down, z forward)."""
    camera_right, camera_down, forward = cam_from_world[:, :3].double().cpu().numpy()
    # A camera that looks straight down or up has its heading where the picture's upper or lower edge points.
    heading = forward + np.sign(forward[2]) * camera_down
    heading = np.array([heading[0], heading[1], 0.0])
    heading /= np.linalg.norm(heading)
    right = np.cross(heading, _UP)
    return (
        Side("front, as the camera looks", camera_right, -camera_down, "right", "up in the picture"),
        Side("side, from the camera's right", heading, _UP, "away from the camera", "up"),
        Side("top", right, heading, "right", "away from the camera"),
    )


def half_width(coord: Float[Tensor, "points 3"], sides: tuple[Side, ...]) -> float:
    """Half the side of the square picture that shows every point from every side, with a margin of 5 %.

    In the unit of ``coord``; 1 for a cloud without points.
    """
    points = coord.double().cpu().numpy()
    if len(points) == 0:
        return 1.0
    axes = np.stack([axis for side in sides for axis in (side.right, side.up)])
    return float(max(1.05 * np.abs(points @ axes.T).max(), 1e-6))


def point_size_for(num_points: int, *, half_width: float, smallest: float) -> float:
    """The diameter at which so many points about close a surface that fills the picture.

    At least ``smallest``, and no more than two and a half times that: a clump must not swell.
    """
    return min(max(smallest, 2.2 * half_width / max(num_points, 1) ** 0.5), 2.5 * smallest)


def draw_cloud(
    coord: Float[Tensor, "points 3"],
    color: Float[Tensor, "points 3"],
    side: Side,
    *,
    half_width: float,
    size_px: int = 480,
    point_size: float = 0.02,
    on_top: Bool[Tensor, " points"] | None = None,
) -> UInt8[np.ndarray, "size_px size_px 3"]:
    """The cloud from one side; nearer points hide those behind them.

    Args:
        coord: any unit; the world's origin is the picture's middle.
        color: RGB in [0, 1].
        side: where the viewer stands, infinitely far away.
        half_width: half the side of the picture, in the unit of ``coord``; points outside are cut off.
        size_px: side of the picture.
        point_size: diameter of a point, in the unit of ``coord``; at least one pixel is drawn.
        on_top: points that only others of their kind can hide.
    """
    points = coord.double().cpu().numpy()
    picture = np.tile(np.array(BACKGROUND), (size_px * size_px, 1))
    px_per_unit = size_px / (2 * half_width)
    column = np.floor((points @ side.right + half_width) * px_per_unit).astype(np.int64)
    row = np.floor((half_width - points @ side.up) * px_per_unit).astype(np.int64)
    nearness = points @ np.cross(side.right, side.up)

    splat = _disc(point_size * px_per_unit)
    rows, columns = row[:, None] + splat[:, 0], column[:, None] + splat[:, 1]
    is_inside = (rows >= 0) & (rows < size_px) & (columns >= 0) & (columns < size_px)
    pixel = (rows * size_px + columns)[is_inside]
    point = np.broadcast_to(np.arange(len(points))[:, None], rows.shape)[is_inside]
    is_low = np.zeros(len(points), bool) if on_top is None else ~on_top.cpu().numpy()
    nearest_first = np.lexsort((point, -nearness[point], is_low[point], pixel))
    covered, first = np.unique(pixel[nearest_first], return_index=True)
    picture[covered] = color.double().cpu().numpy()[point[nearest_first[first]]]
    levels = (picture.clip(0, 1) * 255).round().astype(np.uint8)
    return levels.reshape(size_px, size_px, 3)


def _disc(diameter_px: float) -> np.ndarray:
    """Row and column offsets of the pixels of a disc about its middle pixel."""
    reach = int(max(diameter_px, 1) // 2)
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    is_in_disc = row**2 + column**2 <= max(diameter_px / 2, 0.5) ** 2
    return np.stack([row[is_in_disc], column[is_in_disc]], axis=-1)
