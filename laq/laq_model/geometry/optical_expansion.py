"""How far a moved body went, by where its picture went and how much it grew or shrank.

A small network's depth knows where a hand is to a tenth, and a hand goes less than that between two
frames: the change of its depth is noise. But what comes nearer is seen larger, by the ratio of its depths,
and outline and texture tell that to a percent or two. So the picture of each body that the search in space
has found (`pointcloud/displacement.py`) is laid on the other frame, shifted and scaled. The scale gives the
body's new depth; the shift, looked for about the one that the search says, where it went across the line of
sight.

Source: Yang & Ramanan, "Upgrading Optical Flow to 3D Scene Flow through Optical Expansion", CVPR 2020: the
ratio of depths is the inverse of a patch's growth. Departure: one scale a body, searched over colours, where
they have a network say it pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .cameras import rotate
from .unproject import project_points

FEWEST_PIXELS, MOST_PIXELS = 12, 192  # of a body's picture; of more, as many of them evenly
MOST_PLACES = 64  # of a body that its picture is looked for about
# Logarithm of the scale, and pixels about the picture's own shift: coarse, then fine about the best of these.
COARSE_SCALE, COARSE_PX = (0.2, 0.1), (6.0, 2.0)
FINE_SCALE, FINE_PX = (0.1, 0.025), (4 / 3, 1 / 3)
# Mean difference of RGB in [0, 1] beyond which a pixel is taken for another thing.
MOST_DIFFERENCE = 0.15
# Mean difference that a scale of e must gain: where nothing tells, a body keeps its depth.
COST_OF_SCALE = 0.3
TEMPERATURE = 0.003  # of the mean difference, among the scales and the shifts that are averaged


def displacement_by_expansion(
    displacement_m: Float[Tensor, "scenes 2 height width 3"],
    *,
    point_map_m: Float[Tensor, "scenes 2 height width 3"],
    color: Float[Tensor, "scenes 2 height width 3"],
    has_changed: Bool[Tensor, "scenes 2 height width"],
    intrinsics: Float[Tensor, "scenes 2 3 3"],
    cam_from_world: Float[Tensor, "scenes 2 3 4"],
    reach_m: float,
) -> Float[Tensor, "scenes 2 height width 3"]:
    """The same displacements as the picture tells them; along the second camera's line of sight, its growth.

    Args:
        displacement_m: of ``displacement_of_moved``: one shift a body, zero elsewhere. A body of few pixels
            keeps its shift.
        point_map_m: of both frames in one world, finite.
        color: RGB in [0, 1].
        has_changed: pixels in whose place the other frame shows another colour. The rest tells nothing of
            motion: it stood still, or looks the same wherever the body went.
        intrinsics: pixels of the maps.
        cam_from_world: OpenCV axes.
        reach_m: how far from points that moved their body may go on: what covers itself counts as still.
    """
    expanded = torch.zeros_like(displacement_m)
    for scene in range(len(displacement_m)):
        views = _Views(
            point_map_m[scene], color[scene], has_changed[scene], intrinsics[scene], cam_from_world[scene]
        )
        shift_of = displacement_m[scene]
        moved = shift_of[(shift_of != 0).any(-1)]
        for shift in torch.unique(moved, dim=0):
            is_body = (shift_of == shift).all(-1)
            new_shift = _expanded_shift(shift, is_body, views, reach_m=reach_m)
            expanded[scene] = torch.where(is_body[..., None], new_shift, expanded[scene])
    return expanded


@dataclass(frozen=True)
class _Views:
    """Two frames of one scene."""

    point_map_m: Float[Tensor, "2 height width 3"]
    color: Float[Tensor, "2 height width 3"]
    has_changed: Bool[Tensor, "2 height width"]
    intrinsics: Float[Tensor, "2 3 3"]
    cam_from_world: Float[Tensor, "2 3 4"]


def _expanded_shift(
    shift: Float[Tensor, " 3"], is_body: Bool[Tensor, "2 height width"], views: _Views, *, reach_m: float
) -> Float[Tensor, " 3"]:
    """The body's shift, to where its picture is found, at the depth that its growth tells.

    Its growth there and its shrinking back are asked both, and halved: a picture that is laid on another fits
    better a little too small, inside what it came from.
    """
    laid = []
    for frame, sign in ((0, 1.0), (1, -1.0)):
        # Near the body's points in this frame, and near where those of the other frame are in this one.
        place = torch.cat(
            [views.point_map_m[frame][is_body[frame]],
             views.point_map_m[1 - frame][is_body[1 - frame]] - sign * shift]
        )  # fmt: skip
        distance = torch.cdist(views.point_map_m[frame].flatten(0, 1), _evenly(place, MOST_PLACES)).amin(1)
        pixels = (distance < reach_m).unflatten(0, is_body.shape[1:]) & views.has_changed[frame]
        laid.append(_lay(pixels, sign * shift, views, frame=frame))
    there, back = laid
    if there is None or back is None:
        return shift
    log_growth = (there.log_growth - back.log_growth) / 2
    rays = torch.stack([there.middle_px + there.move_px, there.middle_px])
    rays = torch.linalg.solve(views.intrinsics[1], F.pad(rays, (0, 1), value=1.0).T).T
    in_camera = (rays[0] * (-log_growth).exp() - rays[1]) * there.depth
    return rotate(views.cam_from_world[1, :, :3].T, in_camera)


@dataclass(frozen=True)
class _Laid:
    """How a body's picture is laid on the other frame.

    Attributes:
        middle_px: of the picture, were the body still, as the other camera would see it.
        move_px: of the picture.
        depth: of the still body before the other camera.
    """

    log_growth: Float[Tensor, ""]
    middle_px: Float[Tensor, " 2"]
    move_px: Float[Tensor, " 2"]
    depth: Float[Tensor, ""]


def _lay(
    pixels: Bool[Tensor, "height width"], shift: Float[Tensor, " 3"], views: _Views, *, frame: int
) -> _Laid | None:
    """Lay these pixels of one frame on the other; None if they are few, or behind its camera."""
    chosen = pixels.nonzero()
    if len(chosen) < FEWEST_PIXELS:
        return None
    row, column = _evenly(chosen, MOST_PIXELS).unbind(1)
    place = views.point_map_m[frame, row, column]
    other = 1 - frame
    both, depth = project_points(
        torch.stack([place, place + shift]),
        views.intrinsics[other].expand(2, 3, 3),
        views.cam_from_world[other].expand(2, 3, 4),
    )
    if not bool((depth > 0).all()):
        return None
    still, middle, move = both[0], both[0].mean(0), (both[1] - both[0]).mean(0)
    picture = views.color[other].permute(2, 0, 1)[None]
    own_color = views.color[frame, row, column].T

    def costs(log_growth: Tensor, move_px: Tensor) -> Float[Tensor, "scales moves"]:
        at = middle + log_growth.exp()[:, None, None, None] * (still - middle) + move_px[:, None]
        return _mean_difference(picture, own_color, at) + COST_OF_SCALE * log_growth[:, None] ** 2

    log_growth, move_px = _about(0.0, *COARSE_SCALE, like=still), _square_about(move, *COARSE_PX)
    best = int(costs(log_growth, move_px).argmin())
    log_growth = _about(float(log_growth[best // len(move_px)]), *FINE_SCALE, like=still)
    move_px = _square_about(move_px[best % len(move_px)], *FINE_PX)
    weight = torch.softmax(-costs(log_growth, move_px).flatten() / TEMPERATURE, dim=0)
    weight = weight.view(len(log_growth), len(move_px))
    return _Laid(
        log_growth=weight.sum(1) @ log_growth,
        middle_px=middle,
        move_px=weight.sum(0) @ move_px,
        depth=depth[0].mean(),
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


def _evenly(rows: Tensor, at_most: int) -> Tensor:
    """Every n-th row, so that no more than this many are left."""
    return rows[:: 1 + (len(rows) - 1) // at_most]


def _about(middle: float, reach: float, step: float, *, like: Tensor) -> Float[Tensor, " values"]:
    steps = round(reach / step)
    return middle + torch.arange(-steps, steps + 1, device=like.device, dtype=like.dtype) * step


def _square_about(middle: Float[Tensor, " 2"], reach: float, step: float) -> Float[Tensor, "values 2"]:
    along = _about(0.0, reach, step, like=middle)
    return middle + torch.cartesian_prod(along, along)
