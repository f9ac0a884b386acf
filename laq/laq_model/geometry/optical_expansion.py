"""How far a moved body went, by where its picture went and how much it grew or shrank.

A small network's depth knows where a hand is to a tenth, and a hand goes less than that between two
frames: the change of its depth is noise. But what comes nearer is seen larger, by the ratio of its depths,
and outline and texture tell that to a percent or two. So the picture of each body that the search in space
has found (`pointcloud/displacement.py`) is laid on the other frame, shifted and scaled: first all of it,
about the shift that the search says, to find where it went across the line of sight; then piece by piece,
about there. An arm bends, and what bends looks as if it grew or shrank; its pieces hardly bend. The scale of
a piece gives its new depth.

Source: Yang & Ramanan, "Upgrading Optical Flow to 3D Scene Flow through Optical Expansion", CVPR 2020: the
ratio of depths is the inverse of a patch's growth. Departure: one scale a piece, searched over colours, where
they have a network say it pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .cameras import rotate
from .unproject import project_points

MOST_PIECES = 5  # of a body, along its longest axis
FEWEST_POINTS = 8  # of a piece, if there are several
FEWEST_PIXELS = 12  # of a picture
MOST_PLACES = 64  # of a body or piece that its picture is looked for about
# Reach and step of the logarithm of the scale: coarse, then fine about the best of these.
COARSE_SCALE, FINE_SCALE = (0.2, 0.1), (0.1, 0.025)
# Mean difference of RGB in [0, 1] beyond which a pixel is taken for another thing.
MOST_DIFFERENCE = 0.15
# Mean difference that a scale of e must gain: where nothing tells, a body keeps its depth.
COST_OF_SCALE = 0.3
TEMPERATURE = 0.003  # of the mean difference, among the scales and the shifts that are averaged


@dataclass(frozen=True)
class _Search:
    """How a picture is looked for.

    Attributes:
        most_pixels: of the picture; of more, as many of them evenly.
        coarse_px: reach and step about the picture's own shift.
        fine_px: the same, about the best of these.
    """

    most_pixels: int
    coarse_px: tuple[float, float]
    fine_px: tuple[float, float]


BODY = _Search(most_pixels=192, coarse_px=(6.0, 2.0), fine_px=(4 / 3, 1 / 3))
PIECE = _Search(most_pixels=96, coarse_px=(4.0, 2.0), fine_px=(1.0, 0.5))  # the body's shift is known by now


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
            keeps its shift; a piece of few pixels goes with its body.
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
            expanded[scene] += _displacement_of_body(shift, is_body, views, reach_m=reach_m)
    return expanded


@dataclass(frozen=True)
class _Views:
    """Two frames of one scene."""

    point_map_m: Float[Tensor, "2 height width 3"]
    color: Float[Tensor, "2 height width 3"]
    has_changed: Bool[Tensor, "2 height width"]
    intrinsics: Float[Tensor, "2 3 3"]
    cam_from_world: Float[Tensor, "2 3 4"]


def _displacement_of_body(
    shift: Float[Tensor, " 3"], is_body: Bool[Tensor, "2 height width"], views: _Views, *, reach_m: float
) -> Float[Tensor, "2 height width 3"]:
    """A shift for each piece of the body, there and nowhere else."""
    displacement = torch.where(is_body[..., None], shift, 0.0)
    there, back = _lay_both_ways(shift, is_body, views, BODY, reach_m=reach_m)
    if there is None or back is None:
        return displacement
    across = _shift_of(there, views, log_growth=torch.zeros_like(there.log_growth))
    for is_piece in _pieces(across, is_body, views.point_map_m):
        there, back = _lay_both_ways(across, is_piece, views, PIECE, reach_m=reach_m)
        of_piece = across
        if there is not None and back is not None:
            # Growth there and shrinking back are asked both, and halved: a picture that is laid on another
            # fits better a little too small, inside what it came from.
            of_piece = _shift_of(there, views, log_growth=(there.log_growth - back.log_growth) / 2)
        displacement = torch.where(is_piece[..., None], of_piece, displacement)
    return displacement


def _pieces(
    shift: Float[Tensor, " 3"],
    is_body: Bool[Tensor, "2 height width"],
    point_map_m: Float[Tensor, "2 height width 3"],
) -> list[Bool[Tensor, "2 height width"]]:
    """The body's points of both frames, cut across its longest axis into pieces of as many points each."""
    frame = is_body.nonzero()[:, :1]
    place = point_map_m[is_body] - frame * shift  # where each was in the first frame
    count = min(MOST_PIECES, max(1, len(place) // FEWEST_POINTS))
    _, _, axes = torch.linalg.svd(place - place.mean(0), full_matrices=False)
    rank = (place @ axes[0]).argsort().argsort()
    number = torch.full(is_body.shape, -1, device=rank.device)
    number[is_body] = rank * count // len(place)
    return [number == piece for piece in range(count)]


def _lay_both_ways(
    shift: Float[Tensor, " 3"],
    is_part: Bool[Tensor, "2 height width"],
    views: _Views,
    search: _Search,
    *,
    reach_m: float,
) -> list[_Laid | None]:
    """How the part's picture is laid on the second frame, and that of the second on the first."""
    laid = []
    for frame, sign in ((0, 1.0), (1, -1.0)):
        # Near the part's points in this frame, and near where those of the other frame are in this one.
        place = torch.cat(
            [views.point_map_m[frame][is_part[frame]],
             views.point_map_m[1 - frame][is_part[1 - frame]] - sign * shift]
        )  # fmt: skip
        changed = views.has_changed[frame].nonzero()
        distance = torch.cdist(views.point_map_m[frame][changed.unbind(1)], _evenly(place, MOST_PLACES))
        pixels = changed[distance.amin(1) < reach_m]
        laid.append(_lay(pixels, sign * shift, views, search, frame=frame))
    return laid


def _shift_of(there: _Laid, views: _Views, *, log_growth: Float[Tensor, ""]) -> Float[Tensor, " 3"]:
    """To where the picture is found, at the depth that its growth tells."""
    rays = torch.stack([there.middle_px + there.move_px, there.middle_px])
    rays = torch.linalg.solve(views.intrinsics[1], F.pad(rays, (0, 1), value=1.0).T).T
    in_camera = (rays[0] * (-log_growth).exp() - rays[1]) * there.depth
    return rotate(views.cam_from_world[1, :, :3].T, in_camera)


@dataclass(frozen=True)
class _Laid:
    """How the picture of a body or piece is laid on the other frame.

    Attributes:
        middle_px: of the picture, were it still, as the other camera would see it.
        move_px: of the picture.
        depth: of what is still before the other camera.
    """

    log_growth: Float[Tensor, ""]
    middle_px: Float[Tensor, " 2"]
    move_px: Float[Tensor, " 2"]
    depth: Float[Tensor, ""]


def _lay(
    pixels: Int[Tensor, "pixels 2"],
    shift: Float[Tensor, " 3"],
    views: _Views,
    search: _Search,
    *,
    frame: int,
) -> _Laid | None:
    """Lay these pixels of one frame on the other; None if they are few, or behind its camera."""
    if len(pixels) < FEWEST_PIXELS:
        return None
    row, column = _evenly(pixels, search.most_pixels).unbind(1)
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

    log_growth, move_px = _about(0.0, *COARSE_SCALE, like=still), _square_about(move, *search.coarse_px)
    best = int(costs(log_growth, move_px).argmin())
    log_growth = _about(float(log_growth[best // len(move_px)]), *FINE_SCALE, like=still)
    move_px = _square_about(move_px[best % len(move_px)], *search.fine_px)
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
