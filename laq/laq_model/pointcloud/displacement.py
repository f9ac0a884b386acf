"""Where what moved went: the shift that lays the matter one frame lost upon the matter the other frame has.

What moves by less than its own size covers itself, so that only its edges are seen to vanish and to appear:
neither tells how far it went. So the shift is searched: the one under which as many of the points that moved
as possible meet points of like colour in the other frame. Points that it explains are set aside, and the next
body is searched among the rest. The world is shared by both frames, so a camera's motion is no shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .cell_pooling import cell_number

GRID_CELLS = 64  # a side of the neighbourhood that is searched, about the middle of what moved
WITNESSES = 160  # points of each frame that vote; more change little
COLOR_TOLERANCE = 0.12  # of RGB in [0, 1]: shading of a turning surface, noise of video
FEWEST_WITNESSES = 4
COARSE_STEP_CELLS, FINE_STEP_CELLS = 1.5, 0.5
TEMPERATURE = 0.03  # of the share of votes, among the fine shifts that are averaged
EXPLAINED = 0.3  # likeness from which a point is taken for a part of the body


@dataclass(frozen=True)
class _ColoredGrid:
    """The colour and presence of matter around what moved, one grid a scene, blurred by a cell.

    Attributes:
        corner_m: of the first cell.
        presence: 0 where nothing is, 1 from about one point on.
    """

    corner_m: Float[Tensor, "scenes 3"]
    presence: Float[Tensor, "scenes cells"]
    color: Float[Tensor, "scenes cells 3"]
    cell_m: float

    def likeness(
        self, point_m: Float[Tensor, "scenes *shape 3"], color: Float[Tensor, "scenes *shape 3"]
    ) -> Float[Tensor, "scenes *shape"]:  # noqa: UP037 (jaxtyping reads it)
        """How well a point of this colour would fit here, 0 to 1."""
        number, is_inside = _grid_cell(point_m, self.corner_m, self.cell_m)
        index = number.flatten(1)
        presence = self.presence.gather(1, index).view(is_inside.shape)
        there = self.color.gather(1, index[..., None].expand(-1, -1, 3)).view(point_m.shape)
        difference = (there - color).square().sum(-1) / (2 * COLOR_TOLERANCE**2)
        return torch.exp(-difference) * presence * is_inside


def displacement_of_moved(
    point_map_m: Float[Tensor, "scenes 2 height width 3"],
    *,
    color: Float[Tensor, "scenes 2 height width 3"],
    is_kept: Bool[Tensor, "scenes 2 height width"],
    is_moved: Bool[Tensor, "scenes 2 height width"],
    cell_m: float,
    max_shift_m: float,
    num_bodies: int,
) -> Float[Tensor, "scenes 2 height width 3"]:
    """From the first frame to the second, metres, of each point that moved; zero where no shift explains it.

    In frame 0 it says where the point goes, in frame 1 whence it came. Equal frames give zeros. Scenes do not
    influence one another.

    Args:
        point_map_m: in the scene's levelled world, shared by both frames.
        color: RGB in [0, 1].
        is_kept: pixels that are points.
        is_moved: points that stand elsewhere in the other frame, as far as is known.
        cell_m: how near matter must lie to be met.
        max_shift_m: longest shift.
        num_bodies: most shifts of a scene.
    """
    scenes, _, height, width, _ = point_map_m.shape
    point = rearrange(point_map_m, "s f h w c -> s f (h w) c")
    rgb = rearrange(color, "s f h w c -> s f (h w) c")
    is_point = rearrange(is_kept, "s f h w -> s f (h w)")
    is_left = is_point & rearrange(is_moved, "s f h w -> s f (h w)")
    corner = _median_point(point, is_left) - GRID_CELLS / 2 * cell_m
    grids = [_colored_grid(point[:, f], rgb[:, f], is_point[:, f], corner, cell_m) for f in (0, 1)]
    shifts = _ball(max_shift_m, COARSE_STEP_CELLS * cell_m).to(point)
    fine = _cube(COARSE_STEP_CELLS * cell_m, FINE_STEP_CELLS * cell_m).to(point)
    displacement = torch.zeros_like(point)
    for _ in range(num_bodies):
        witness = [_evenly(is_left[:, f], WITNESSES) for f in (0, 1)]
        num_witnesses = torch.stack([is_real.sum(-1) for _, is_real in witness]).sum(0)
        is_enough = (num_witnesses >= FEWEST_WITNESSES)[:, None]
        coarse_votes = _votes(shifts.expand(scenes, -1, -1), point, rgb, witness, grids)
        best = shifts[coarse_votes.argmax(1)]
        around = best[:, None] + fine
        votes = _votes(around, point, rgb, witness, grids)
        weight = torch.softmax(votes / TEMPERATURE, dim=1)
        shift = (weight[..., None] * around).sum(1)
        for frame, sign in ((0, 1.0), (1, -1.0)):
            fit = grids[1 - frame].likeness(point[:, frame] + sign * shift[:, None], rgb[:, frame])
            is_explained = is_left[:, frame] & (fit >= EXPLAINED) & is_enough
            displacement[:, frame] = torch.where(
                is_explained[..., None], shift[:, None], displacement[:, frame]
            )
            is_left[:, frame] &= ~is_explained
    return rearrange(displacement, "s f (h w) c -> s f h w c", h=height, w=width)


def _votes(
    shifts: Float[Tensor, "scenes shifts 3"],
    point: Float[Tensor, "scenes 2 points 3"],
    rgb: Float[Tensor, "scenes 2 points 3"],
    witness: list[tuple[Int[Tensor, "scenes witnesses"], Bool[Tensor, "scenes witnesses"]]],
    grids: list[_ColoredGrid],
) -> Float[Tensor, "scenes shifts"]:
    """Mean likeness of the witnesses of both frames where each shift would lay them in the other frame."""
    total, count = torch.zeros_like(shifts[..., 0]), torch.zeros_like(shifts[:, :1, 0])
    for frame, sign in ((0, 1.0), (1, -1.0)):
        index, is_real = witness[frame]
        rows = index[..., None].expand(-1, -1, 3)
        place, color = point[:, frame].gather(1, rows), rgb[:, frame].gather(1, rows)
        laid = place[:, None] + sign * shifts[:, :, None]
        fit = grids[1 - frame].likeness(laid, color[:, None].expand_as(laid))
        total = total + (fit * is_real[:, None]).sum(-1)
        count = count + is_real.sum(-1, keepdim=True)
    return total / count.clamp(min=1)


def _colored_grid(
    point: Float[Tensor, "scenes points 3"],
    rgb: Float[Tensor, "scenes points 3"],
    is_point: Bool[Tensor, "scenes points"],
    corner_m: Float[Tensor, "scenes 3"],
    cell_m: float,
) -> _ColoredGrid:
    index, is_inside = _grid_cell(point, corner_m, cell_m)
    mass = torch.cat([torch.ones_like(rgb[..., :1]), rgb], dim=-1) * (is_inside & is_point)[..., None]
    grid = rgb.new_zeros(len(point), GRID_CELLS**3, 4)
    grid.scatter_add_(1, index[..., None].expand(-1, -1, 4), mass)
    grid = grid.view(-1, GRID_CELLS, GRID_CELLS, GRID_CELLS, 4)
    for axis in (1, 2, 3):
        grid = _blurred(grid, axis)
    grid = grid.flatten(1, 3)
    amount = grid[..., 0]
    color = grid[..., 1:] / amount.clamp(min=1e-6)[..., None]
    return _ColoredGrid(corner_m, amount.clamp(max=1.0), color, cell_m)


def _grid_cell(
    point_m: Float[Tensor, "scenes *shape 3"], corner_m: Float[Tensor, "scenes 3"], cell_m: float
) -> tuple[Int[Tensor, scenes * shape], Bool[Tensor, scenes * shape]]:
    """Number of each point's cell, or of the nearest one; and whether the point lies inside the grid."""
    corner = corner_m.view(len(corner_m), *[1] * (point_m.ndim - 2), 3)
    cell = ((point_m - corner) / cell_m).floor()
    is_inside = ((cell >= 0) & (cell < GRID_CELLS)).all(-1)
    return cell_number(cell.clamp(0, GRID_CELLS - 1).long(), GRID_CELLS), is_inside


def _blurred(grid: Float[Tensor, "scenes x y z channels"], axis: int) -> Tensor:
    """Each cell and half of its two neighbours along an axis."""
    blurred = grid.clone()
    size = grid.shape[axis]
    blurred.narrow(axis, 1, size - 1).add_(grid.narrow(axis, 0, size - 1), alpha=0.5)
    blurred.narrow(axis, 0, size - 1).add_(grid.narrow(axis, 1, size - 1), alpha=0.5)
    return blurred


def _median_point(
    point: Float[Tensor, "scenes 2 points 3"], is_counted: Bool[Tensor, "scenes 2 points"]
) -> Float[Tensor, "scenes 3"]:
    """Median along each axis; zero where nothing is counted."""
    flat = rearrange(point, "s f n c -> s (f n) c")
    counted = rearrange(is_counted, "s f n -> s (f n) 1")
    return flat.masked_fill(~counted, torch.nan).nanmedian(dim=1).values.nan_to_num(0.0)


def _evenly(
    is_candidate: Bool[Tensor, "scenes points"], count: int
) -> tuple[Int[Tensor, "scenes count"], Bool[Tensor, "scenes count"]]:
    """``count`` candidates spread evenly over the rows of each scene; all of them where there are fewer."""
    rank = is_candidate.long().cumsum(1)
    total = rank[:, -1:]
    step = torch.arange(count, device=rank.device).expand(len(rank), -1)
    wanted = torch.where(total > count, step * total // count, step)
    index = torch.searchsorted(rank, wanted + 1)
    return index.clamp(max=is_candidate.shape[1] - 1), wanted < total


def _ball(radius: float, step: float) -> Float[Tensor, "shifts 3"]:
    shifts = _cube(radius, step)
    return shifts[shifts.norm(dim=1) <= radius * (1 + 1e-6)]


def _cube(radius: float, step: float) -> Float[Tensor, "shifts 3"]:
    """Every shift of whole steps up to a radius along each axis."""
    reach = int(radius / step + 1e-6)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float32) * step
    return torch.cartesian_prod(axis, axis, axis)
