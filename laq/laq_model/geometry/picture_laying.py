"""Lay what one frame shows of a thing on the other frame, shifted and scaled until the colours fit.

The shift and the scale are searched: a coarse grid of both, a fine one about its best, and the mean over the
fine one, where what fits best weighs most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .unproject import project_points

FEWEST_PIXELS = 12  # of a picture
# Reach and step of the logarithm of the scale: coarse, then fine about the best of these.
COARSE_SCALE, FINE_SCALE = (0.2, 0.1), (0.1, 0.025)
# Mean difference of RGB in [0, 1] beyond which a pixel is taken for another thing.
MOST_DIFFERENCE = 0.15
# Mean difference that a scale of e must gain: where nothing tells, a thing keeps its size.
COST_OF_SCALE = 0.3
TEMPERATURE = 0.003  # of the mean difference, among the scales and the shifts that are averaged


@dataclass(frozen=True)
class Search:
    """How a picture is looked for.

    Attributes:
        most_pixels: of the picture.
        coarse_px: reach and step about the picture's own shift.
        fine_px: the same, about the best of these.
    """

    most_pixels: int
    coarse_px: tuple[float, float]
    fine_px: tuple[float, float]


@dataclass(frozen=True)
class TwoViews:
    """Two frames of one scene.

    Attributes:
        point_map_m: of both frames in one world, finite.
        color: RGB in [0, 1].
        changed: row and column of each frame's pixels in whose place the other frame shows another colour.
        intrinsics: pixels of the maps.
        cam_from_world: OpenCV axes.
    """

    point_map_m: Float[Tensor, "2 height width 3"]
    color: Float[Tensor, "2 height width 3"]
    changed: tuple[Int[Tensor, "pixels_0 2"], Int[Tensor, "pixels_1 2"]]
    intrinsics: Float[Tensor, "2 3 3"]
    cam_from_world: Float[Tensor, "2 3 4"]


@dataclass(frozen=True)
class Picture:
    """What one frame shows of a thing, and where the other camera would see it.

    Attributes:
        still_px: of each pixel, were the thing still.
        move_px: of all of it, by the shift about which it is looked for.
        depth: of what is still before the other camera.
        other_frame: RGB, on which the picture is to be laid.
    """

    color: Float[Tensor, "3 pixels"]
    still_px: Float[Tensor, "pixels 2"]
    move_px: Float[Tensor, " 2"]
    depth: Float[Tensor, ""]
    other_frame: Float[Tensor, "1 3 height width"]


@dataclass(frozen=True)
class LaidPicture:
    """How the picture of a thing is laid on the other frame.

    Attributes:
        log_growth: logarithm of the scale.
        middle_px: of the picture, were it still, as the other camera would see it.
        move_px: of the picture, from there.
    """

    log_growth: Float[Tensor, ""]
    middle_px: Float[Tensor, " 2"]
    move_px: Float[Tensor, " 2"]


def picture_of(
    pixels: Int[Tensor, "pixels 2"],
    shift: Float[Tensor, " 3"],
    views: TwoViews,
    *,
    frame: int,
    at_most: int,
) -> Picture | None:
    """These pixels of one frame; None if they are few, or behind the other camera.

    Args:
        pixels: row and column of each.
        shift: in the world, about which the picture is looked for.
        frame: whose pixels they are, 0 or 1.
        at_most: pixels; of more, as many of them evenly.
    """
    if len(pixels) < FEWEST_PIXELS:
        return None
    row, column = evenly(pixels, at_most).unbind(1)
    place = views.point_map_m[frame, row, column]
    other = 1 - frame
    both, depth = project_points(
        torch.stack([place, place + shift]),
        views.intrinsics[other].expand(2, 3, 3),
        views.cam_from_world[other].expand(2, 3, 4),
    )
    if not bool((depth > 0).all()):
        return None
    return Picture(
        color=views.color[frame, row, column].T,
        still_px=both[0],
        move_px=(both[1] - both[0]).mean(0),
        depth=depth[0].mean(),
        other_frame=views.color[other].permute(2, 0, 1)[None],
    )


def lay_picture(picture: Picture, search: Search) -> LaidPicture:
    """Where on the other frame the picture's colours fit best, and how large."""
    still, middle = picture.still_px, picture.still_px.mean(0)

    def costs(log_growth: Tensor, move_px: Tensor) -> Float[Tensor, "scales moves"]:
        at = middle + log_growth.exp()[:, None, None, None] * (still - middle) + move_px[:, None]
        return (
            _mean_difference(picture.other_frame, picture.color, at)
            + COST_OF_SCALE * log_growth[:, None] ** 2
        )

    log_growth = _about(0.0, *COARSE_SCALE, like=still)
    move_px = _square_about(picture.move_px, *search.coarse_px)
    best = int(costs(log_growth, move_px).argmin())
    log_growth = _about(float(log_growth[best // len(move_px)]), *FINE_SCALE, like=still)
    move_px = _square_about(move_px[best % len(move_px)], *search.fine_px)
    weight = torch.softmax(-costs(log_growth, move_px).flatten() / TEMPERATURE, dim=0)
    weight = weight.view(len(log_growth), len(move_px))
    return LaidPicture(
        log_growth=weight.sum(1) @ log_growth, middle_px=middle, move_px=weight.sum(0) @ move_px
    )


def _mean_difference(
    picture: Float[Tensor, "1 3 height width"],
    own_color: Float[Tensor, "3 pixels"],
    at: Float[Tensor, "scales moves pixels 2"],
) -> Float[Tensor, "scales moves"]:
    """Of the colours of pixels and of the places that they are laid on."""
    size = at.new_tensor([picture.shape[-1] - 1, picture.shape[-2] - 1])
    grid = at * (2 / size) - 1
    there = F.grid_sample(picture, grid.flatten(0, 1)[None], align_corners=True, padding_mode="border")[0]
    difference = (there - own_color[:, None]).abs().mean(0).clamp(max=MOST_DIFFERENCE)
    return difference.mean(1).unflatten(0, at.shape[:2])


def evenly(rows: Tensor, at_most: int) -> Tensor:
    """Every n-th row, so that no more than this many are left."""
    return rows[:: 1 + (len(rows) - 1) // at_most]


def _about(middle: float, reach: float, step: float, *, like: Tensor) -> Float[Tensor, " values"]:
    steps = round(reach / step)
    return middle + torch.arange(-steps, steps + 1, device=like.device, dtype=like.dtype) * step


def _square_about(middle: Float[Tensor, " 2"], reach: float, step: float) -> Float[Tensor, "values 2"]:
    along = _about(0.0, reach, step, like=middle)
    return middle + torch.cartesian_prod(along, along)
