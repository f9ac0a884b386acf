"""Where what moved went: the shift that lays the matter one frame lost upon the matter the other frame has.

What moves by less than its own size covers itself, so that only its edges are seen to vanish and to appear:
neither tells how far it went. So the shift is searched: the one under which as many of the points that moved
as possible meet points of like colour in the other frame. It is searched in wide cells first, and then, for
the points that it explains, in cells of half the size. These are set aside, and the next body is searched
among the rest. The world is shared by both frames, so a camera's motion is no shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .cell_pooling import cell_number

GRID_CELLS = 64  # a side of the neighbourhood that is searched, about the middle of what moved
FINE_CELL_SHARE = 0.5  # of a cell: the cells in which a body's shift is refined
WITNESSES, FINE_WITNESSES = 96, 160  # points of each frame that vote; more change little
COLOR_TOLERANCE = 0.12  # of RGB in [0, 1]: shading of a turning surface, noise of video
FEWEST_WITNESSES = 8
COARSE_STEP_CELLS, FINE_STEP_CELLS = 1.5, 0.5
TEMPERATURE = 0.06  # of the share of votes, among the shifts that are averaged
EXPLAINED = 0.3  # likeness from which a point is taken for a part of the body
_SIGNS = ((0, 1.0), (1, -1.0))  # frame, and whether its points go with the shift or against it


@dataclass(frozen=True)
class _ColoredGrid:
    """Presence and colour of matter around what moved, one grid a scene, blurred by a cell.

    Attributes:
        corner_m: of the first cell.
        presence: 0 where nothing is, 1 from about one point on. The border is empty.
    """

    corner_m: Float[Tensor, "scenes 3"]
    presence: Float[Tensor, "scenes cells"]
    color: Float[Tensor, "3 scenes cells"]
    cell_m: float

    def likeness(
        self, cell: Int[Tensor, "scenes points *shifts"], color: Float[Tensor, "scenes points 3"]
    ) -> Float[Tensor, "scenes points *shifts"]:
        """How well a point of this colour would fit into this cell, 0 to 1."""
        scenes, points, *shifts = cell.shape
        one_for_all = [1] * len(shifts)
        row = cell + torch.arange(scenes, device=cell.device).view(-1, 1, *one_for_all) * GRID_CELLS**3
        difference = torch.zeros(cell.shape, device=cell.device)
        for channel in range(3):  # one plane after the other: several times faster than rows of colours
            own = color[..., channel].view(scenes, points, *one_for_all)
            difference += (self.color[channel].take(row) - own).square_()
        return difference.mul_(-0.5 / COLOR_TOLERANCE**2).exp_().mul_(self.presence.take(row))

    def cells_of(self, point_m: Float[Tensor, "scenes points 3"]) -> Int[Tensor, "scenes points"]:
        """Number of each point's cell; of one in the empty border, if the point lies outside."""
        return _cells_of(point_m, self.corner_m, self.cell_m)

    def cells_of_shifted(
        self, point_m: Float[Tensor, "scenes points 3"], along_m: Float[Tensor, "scenes 3 steps"]
    ) -> Int[Tensor, "scenes points steps steps steps"]:
        """``cells_of`` of each point under every shift that takes one of the steps along each axis."""
        laid = point_m[..., None] + (along_m - self.corner_m[..., None])[:, None]
        x, y, z = _cells_from(laid, self.cell_m).unbind(2)
        plane = (y * GRID_CELLS)[..., None] + z[..., None, :]
        return (x * GRID_CELLS**2)[..., None, None] + plane[:, :, None]


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
    grids = _colored_grids(point, rgb, is_point, middle_m=_median_point(point, is_left), cell_m=cell_m)
    displacement = torch.zeros_like(point)
    no_shift = point.new_zeros(scenes, 3)
    for _ in range(num_bodies):
        witness = _witnesses(is_left, WITNESSES)
        is_enough = torch.stack([is_real.sum(-1) for _, is_real in witness]).sum(0) >= FEWEST_WITNESSES
        far = _Search(no_shift, max_shift_m, COARSE_STEP_CELLS * cell_m)
        shift = far.best(_votes(far, point, rgb, witness, grids))
        near = _Search(shift, COARSE_STEP_CELLS * cell_m, FINE_STEP_CELLS * cell_m)
        shift = near.mean(_votes(near, point, rgb, witness, grids))
        fit = [
            grids[1 - frame].likeness(
                grids[1 - frame].cells_of(point[:, frame] + sign * shift[:, None]), rgb[:, frame]
            )
            for frame, sign in _SIGNS
        ]
        is_body = is_left & (torch.stack(fit, dim=1) >= EXPLAINED) & is_enough[:, None, None]
        fine_m = FINE_CELL_SHARE * cell_m
        middle = _median_point(point, is_body)
        fine_grids = _colored_grids(point, rgb, is_point, middle_m=middle, cell_m=fine_m)
        nearer = _Search(shift, COARSE_STEP_CELLS * fine_m, FINE_STEP_CELLS * fine_m)
        shift = nearer.mean(_votes(nearer, point, rgb, _witnesses(is_body, FINE_WITNESSES), fine_grids))
        displacement = torch.where(is_body[..., None], shift[:, None, None], displacement)
        is_left = is_left & ~is_body
    return rearrange(displacement, "s f (h w) c -> s f h w c", h=height, w=width)


@dataclass(frozen=True)
class _Search:
    """Shifts to try: whole steps along each axis about a centre, up to a radius."""

    centre_m: Float[Tensor, "scenes 3"]
    radius_m: float
    step_m: float

    @property
    def offset_m(self) -> Float[Tensor, " steps"]:
        """Steps along one axis."""
        reach = int(self.radius_m / self.step_m + 1e-6)
        return torch.arange(-reach, reach + 1, device=self.centre_m.device) * self.step_m

    @property
    def along_m(self) -> Float[Tensor, "scenes 3 steps"]:
        """Shifts along each axis."""
        return self.centre_m[..., None] + self.offset_m

    @property
    def shift_m(self) -> Float[Tensor, "scenes shifts 3"]:
        """Every shift, x slowest."""
        offset = self.offset_m
        return self.centre_m[:, None] + torch.cartesian_prod(offset, offset, offset)

    def best(self, votes: Float[Tensor, "scenes shifts"]) -> Float[Tensor, "scenes 3"]:
        """The shift with the most votes among those no longer than the radius."""
        shift = self.shift_m
        length = (shift - self.centre_m[:, None]).norm(dim=-1)
        votes = votes.masked_fill(length > self.radius_m * (1 + 1e-6), -1.0)
        return shift.gather(1, votes.argmax(1)[:, None, None].expand(-1, -1, 3))[:, 0]

    def mean(self, votes: Float[Tensor, "scenes shifts"]) -> Float[Tensor, "scenes 3"]:
        """Mean of the shifts, those with the most votes weighing most."""
        weight = torch.softmax(votes / TEMPERATURE, dim=1)
        return (weight[..., None] * self.shift_m).sum(1)


_Witnesses = list[tuple[Int[Tensor, "scenes witnesses"], Bool[Tensor, "scenes witnesses"]]]


def _votes(
    search: _Search,
    point: Float[Tensor, "scenes 2 points 3"],
    rgb: Float[Tensor, "scenes 2 points 3"],
    witness: _Witnesses,
    grids: list[_ColoredGrid],
) -> Float[Tensor, "scenes shifts"]:
    """Mean likeness of the witnesses of both frames where each shift would lay them in the other frame."""
    votes, count = point.new_zeros(()), point.new_zeros(())
    for frame, sign in _SIGNS:
        index, is_real = witness[frame]
        rows = index[..., None].expand(-1, -1, 3)
        place, color = point[:, frame].gather(1, rows), rgb[:, frame].gather(1, rows)
        grid = grids[1 - frame]
        fit = grid.likeness(grid.cells_of_shifted(place, sign * search.along_m), color).flatten(2)
        votes = votes + torch.einsum("spk,sp->sk", fit, is_real.to(fit.dtype))
        count = count + is_real.sum(-1, keepdim=True)
    return votes / count.clamp(min=1)


def _witnesses(is_candidate: Bool[Tensor, "scenes 2 points"], count: int) -> _Witnesses:
    return [_evenly(is_candidate[:, frame], count) for frame in (0, 1)]


def _colored_grids(
    point: Float[Tensor, "scenes 2 points 3"],
    rgb: Float[Tensor, "scenes 2 points 3"],
    is_point: Bool[Tensor, "scenes 2 points"],
    *,
    middle_m: Float[Tensor, "scenes 3"],
    cell_m: float,
) -> list[_ColoredGrid]:
    corner = middle_m - GRID_CELLS / 2 * cell_m
    return [_colored_grid(point[:, f], rgb[:, f], is_point[:, f], corner, cell_m) for f in (0, 1)]


def _colored_grid(
    point: Float[Tensor, "scenes points 3"],
    rgb: Float[Tensor, "scenes points 3"],
    is_point: Bool[Tensor, "scenes points"],
    corner_m: Float[Tensor, "scenes 3"],
    cell_m: float,
) -> _ColoredGrid:
    # Planes of count, red, green and blue.
    mass = torch.cat([torch.ones_like(rgb[..., :1]), rgb], dim=-1) * is_point[..., None]
    index = _cells_of(point, corner_m, cell_m)
    plane = rearrange(mass, "s n c -> c s n")
    grid = rgb.new_zeros(4, len(point), GRID_CELLS**3).scatter_add_(2, index.expand(4, -1, -1), plane)
    grid = grid.view(4, -1, GRID_CELLS, GRID_CELLS, GRID_CELLS)
    _empty_border(grid)  # where all that lies outside was counted
    for axis in (2, 3, 4):
        grid = _blurred(grid, axis)
    presence, color = grid[0].clamp(max=1.0), grid[1:] / grid[:1].clamp(min=1e-6)
    _empty_border(presence)
    return _ColoredGrid(corner_m, presence.flatten(1), color.flatten(2), cell_m)


def _cells_of(
    point_m: Float[Tensor, "scenes points 3"], corner_m: Float[Tensor, "scenes 3"], cell_m: float
) -> Int[Tensor, "scenes points"]:
    return cell_number(_cells_from(point_m - corner_m[:, None], cell_m), GRID_CELLS)


def _cells_from(from_corner_m: Tensor, cell_m: float) -> Tensor:
    """Cell along each axis; the nearest of the border for what lies outside."""
    return (from_corner_m / cell_m).floor().clamp(0, GRID_CELLS - 1).long()


def _empty_border(grid: Float[Tensor, "*batch x y z"]) -> None:
    for axis in (-3, -2, -1):
        grid.narrow(axis, 0, 1).zero_()
        grid.narrow(axis, GRID_CELLS - 1, 1).zero_()


def _blurred(grid: Float[Tensor, "planes scenes x y z"], axis: int) -> Tensor:
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
