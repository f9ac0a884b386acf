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

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .cameras import rotate
from .picture_laying import LaidPicture, Picture, Search, TwoViews, evenly, lay_picture, picture_of

MOST_PIECES = 5  # of a body, along its longest axis
FEWEST_POINTS = 8  # of a piece, if there are several
MOST_PLACES = 64  # of a body or piece that its picture is looked for about

BODY = Search(most_pixels=192, coarse_px=(6.0, 2.0), fine_px=(4 / 3, 1 / 3))
PIECE = Search(most_pixels=96, coarse_px=(4.0, 2.0), fine_px=(1.0, 0.5))  # the body's shift is known by now


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
        first, second = has_changed[scene]
        views = TwoViews(
            point_map_m[scene],
            color[scene],
            (first.nonzero(), second.nonzero()),
            intrinsics[scene],
            cam_from_world[scene],
        )
        shift_of = displacement_m[scene]
        moved = shift_of[(shift_of != 0).any(-1)]
        for shift in torch.unique(moved, dim=0):
            is_body = (shift_of == shift).all(-1)
            expanded[scene] += _displacement_of_body(shift, is_body, views, reach_m=reach_m)
    return expanded


def _displacement_of_body(
    shift: Float[Tensor, " 3"], is_body: Bool[Tensor, "2 height width"], views: TwoViews, *, reach_m: float
) -> Float[Tensor, "2 height width 3"]:
    """A shift for each piece of the body, there and nowhere else."""
    displacement = torch.where(is_body[..., None], shift, 0.0)
    there, back = _pictures(shift, is_body, views, BODY, reach_m=reach_m)
    if there is None or back is None:
        return displacement
    across = _shift_of(there, lay_picture(there, BODY), views, log_growth=there.depth.new_zeros(()))
    for is_piece in _pieces(across, is_body, views.point_map_m):
        there, back = _pictures(across, is_piece, views, PIECE, reach_m=reach_m)
        of_piece = across
        if there is not None and back is not None:
            laid = lay_picture(there, PIECE)
            # Growth there and shrinking back are asked both, and halved: a picture that is laid on another
            # fits better a little too small, inside what it came from.
            log_growth = (laid.log_growth - lay_picture(back, PIECE).log_growth) / 2
            of_piece = _shift_of(there, laid, views, log_growth=log_growth)
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


def _pictures(
    shift: Float[Tensor, " 3"],
    is_part: Bool[Tensor, "2 height width"],
    views: TwoViews,
    search: Search,
    *,
    reach_m: float,
) -> list[Picture | None]:
    """What each frame shows of the part, and of what may belong to it."""
    pictures = []
    for frame, sign in ((0, 1.0), (1, -1.0)):
        # Near the part's points in this frame, and near where those of the other frame are in this one.
        place = torch.cat(
            [views.point_map_m[frame][is_part[frame]],
             views.point_map_m[1 - frame][is_part[1 - frame]] - sign * shift]
        )  # fmt: skip
        changed = views.changed[frame]
        distance = torch.cdist(views.point_map_m[frame][changed.unbind(1)], evenly(place, MOST_PLACES))
        pixels = changed[distance.amin(1) < reach_m]
        pictures.append(picture_of(pixels, sign * shift, views, frame=frame, at_most=search.most_pixels))
    return pictures


def _shift_of(
    picture: Picture, laid: LaidPicture, views: TwoViews, *, log_growth: Float[Tensor, ""]
) -> Float[Tensor, " 3"]:
    """Of the first frame's picture: to where it is found, at the depth that its growth tells."""
    rays = torch.stack([laid.middle_px + laid.move_px, laid.middle_px])
    rays = torch.linalg.solve(views.intrinsics[1], F.pad(rays, (0, 1), value=1.0).T).T
    in_camera = (rays[0] * (-log_growth).exp() - rays[1]) * picture.depth
    return rotate(views.cam_from_world[1, :, :3].T, in_camera)
