"""How far a moved body went along the line of sight, by how much its picture grew or shrank.

A small network's depth knows where a hand is to a tenth, and a hand goes less than that between two frames:
the change of its depth is noise. But what comes nearer is seen larger, by the ratio of its depths, and outline
and texture tell that to a percent or two. So the picture of each body that the search in space has found
(`displacement.py`) is laid on the other frame, shifted and scaled. The scale gives the body's new depth; where
it went across the line of sight stays what the search says.

Source: Yang & Ramanan, "Upgrading Optical Flow to 3D Scene Flow through Optical Expansion", CVPR 2020: the
ratio of depths is the inverse of a patch's growth. Departure: one scale a body, searched over colours, where
they have a network say it pixel by pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.cameras import rotate
from ..geometry.unproject import project_points

FEWEST_PIXELS = 12
# Logarithm of the scale, and pixels about the picture's own shift: coarse, then fine about the best of these.
COARSE_SCALE, COARSE_PX = (0.2, 0.05), (3.0, 1.0)
FINE_SCALE, FINE_PX = (0.05, 0.0125), (1.0, 0.25)
# Mean difference of RGB in [0, 1] beyond which a pixel is taken for another thing.
MOST_DIFFERENCE = 0.15
# Mean difference that a scale of e must gain: where nothing tells, a body keeps its depth.
COST_OF_SCALE = 0.3
TEMPERATURE = 0.003  # of the mean difference, among the scales that are averaged


def displacement_by_expansion(
    displacement_m: Float[Tensor, "scenes 2 height width 3"],
    *,
    point_map_m: Float[Tensor, "scenes 2 height width 3"],
    color: Float[Tensor, "scenes 2 height width 3"],
    intrinsics: Float[Tensor, "scenes 2 3 3"],
    cam_from_world: Float[Tensor, "scenes 2 3 4"],
    reach_m: float,
) -> Float[Tensor, "scenes 2 height width 3"]:
    """The same displacements, their part along the second camera's line of sight told by optical expansion.

    Args:
        displacement_m: of ``displacement_of_moved``: one shift a body, zero elsewhere. A body of few pixels
            keeps its shift.
        point_map_m: of both frames in one world, finite.
        color: RGB in [0, 1].
        intrinsics: pixels of the maps.
        cam_from_world: OpenCV axes.
        reach_m: how far from points that moved their body may go on: what covers itself counts as still.
    """
    expanded = torch.zeros_like(displacement_m)
    for scene in range(len(displacement_m)):
        shift_of = displacement_m[scene]
        moved = shift_of[(shift_of != 0).any(-1)]
        for shift in torch.unique(moved, dim=0):
            is_body = (shift_of == shift).all(-1)
            new_shift = _expanded_shift(
                shift,
                pixels=_pixels_of(is_body, shift, point_map_m[scene], reach_m=reach_m),
                point=point_map_m[scene, 0],
                color=color[scene],
                intrinsics=intrinsics[scene, 1],
                cam_from_world=cam_from_world[scene, 1],
            )
            expanded[scene] = torch.where(is_body[..., None], new_shift, expanded[scene])
    return expanded


def _pixels_of(
    is_body: Bool[Tensor, "2 height width"],
    shift: Float[Tensor, " 3"],
    point_map_m: Float[Tensor, "2 height width 3"],
    *,
    reach_m: float,
) -> Bool[Tensor, "height width"]:
    """Pixels of the first frame that show the body: near its points there, or near whence those of the second came."""
    place = torch.cat([point_map_m[0][is_body[0]], point_map_m[1][is_body[1]] - shift])
    distance = torch.cdist(point_map_m[0].flatten(0, 1), place).amin(1)
    return (distance < reach_m).unflatten(0, is_body.shape[1:])


def _expanded_shift(
    shift: Float[Tensor, " 3"],
    *,
    pixels: Bool[Tensor, "height width"],
    point: Float[Tensor, "height width 3"],
    color: Float[Tensor, "2 height width 3"],
    intrinsics: Float[Tensor, "3 3"],
    cam_from_world: Float[Tensor, "3 4"],
) -> Float[Tensor, " 3"]:
    """The body's shift with its new depth from the scale under which its picture meets the second frame."""
    place = point[pixels]
    if len(place) < FEWEST_PIXELS:
        return shift
    both, depth = project_points(
        torch.stack([place, place + shift]), intrinsics.expand(2, 3, 3), cam_from_world.expand(2, 3, 4)
    )
    if not bool((depth > 0).all()):
        return shift  # behind the camera no picture is to be laid anywhere
    still, middle, middle_depth = both[0], both[0].mean(0), depth[0].mean()
    move = (both[1] - both[0]).mean(0)
    picture = color[1].permute(2, 0, 1)[None]
    own_color = color[0][pixels].T

    def costs(log_scale: Tensor, shift_px: Tensor) -> Float[Tensor, "scales shifts"]:
        laid = middle + log_scale.exp()[:, None, None, None] * (still - middle) + shift_px[:, None]
        return _mean_difference(picture, own_color, laid) + COST_OF_SCALE * log_scale[:, None] ** 2

    log_scale, shift_px = _about(0.0, *COARSE_SCALE, like=still), _square_about(move, *COARSE_PX)
    best = int(costs(log_scale, shift_px).argmin())
    log_scale = _about(float(log_scale[best // len(shift_px)]), *FINE_SCALE, like=still)
    shift_px = _square_about(shift_px[best % len(shift_px)], *FINE_PX)
    weight = torch.softmax(-costs(log_scale, shift_px).flatten() / TEMPERATURE, dim=0)
    found = (weight.view(len(log_scale), -1).sum(1) * log_scale).sum()
    rays = torch.stack([middle + move, middle])
    rays = torch.linalg.solve(intrinsics, F.pad(rays, (0, 1), value=1.0).T).T
    in_camera = (rays[0] * (-found).exp() - rays[1]) * middle_depth
    return rotate(cam_from_world[:, :3].T, in_camera)


def _mean_difference(
    picture: Float[Tensor, "1 3 height width"],
    own_color: Float[Tensor, "3 pixels"],
    laid: Float[Tensor, "scales shifts pixels 2"],
) -> Float[Tensor, "scales shifts"]:
    """Of the colours of pixels and of the places that they are laid on."""
    size = laid.new_tensor([picture.shape[-1] - 1, picture.shape[-2] - 1])
    grid = laid * (2 / size) - 1
    there = F.grid_sample(picture, grid.flatten(0, 1)[None], align_corners=True, padding_mode="border")[0]
    difference = (there - own_color[:, None]).abs().mean(0).clamp(max=MOST_DIFFERENCE)
    return difference.mean(1).unflatten(0, laid.shape[:2])


def _about(middle: float, reach: float, step: float, *, like: Tensor) -> Float[Tensor, " values"]:
    steps = round(reach / step)
    return middle + torch.arange(-steps, steps + 1, device=like.device, dtype=like.dtype) * step


def _square_about(middle: Float[Tensor, " 2"], reach: float, step: float) -> Float[Tensor, "values 2"]:
    along = _about(0.0, reach, step, like=middle)
    return middle + torch.cartesian_prod(along, along)
