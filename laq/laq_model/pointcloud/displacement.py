"""Where what moved went: the shift that lays the matter one frame lost upon the matter the other frame has.

What moves by less than its own size covers itself, so that only its edges are seen to vanish and to appear:
neither tells how far it went. So the shift is searched: the one under which as many of the points that moved
as possible meet points of like colour in the other frame. It is searched in wide cells first, and then, for
the points that it explains, in cells of half the size. These are set aside, and the next body is searched
among the rest. The world is shared by both frames, so a camera's motion is no shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        self, cell: Int[Tensor, "scenes points *shifts"], color: Float[Tensor, "scenes 3 points"]
    ) -> Float[Tensor, "scenes points *shifts"]:
        """How well a point of this colour would fit into this cell, 0 to 1."""
        scenes, points, *shifts = cell.shape
        one_for_all = [1] * len(shifts)
        row = cell + torch.arange(scenes, device=cell.device).view(-1, 1, *one_for_all) * GRID_CELLS**3
        row = row.flatten()

        def at_cell(plane: Tensor) -> Tensor:  # a plane at a time: several times faster than rows of colours
            return plane.flatten().index_select(0, row).view(cell.shape)

        red, green, blue = (
            at_cell(plane).sub_(own.reshape(scenes, points, *one_for_all)).square_()
            for plane, own in zip(self.color, color.unbind(1), strict=True)
        )
        difference = red.add_(green).add_(blue)
        return difference.mul_(-0.5 / COLOR_TOLERANCE**2).exp_().mul_(at_cell(self.presence))

    def cells_of(self, point_m: Float[Tensor, "scenes 3 points"]) -> Int[Tensor, "scenes points"]:
        """Number of each point's cell; of one in the empty border, if the point lies outside."""
        return _cells_of(point_m, self.corner_m, self.cell_m)

    def cells_of_shifted(
        self,
        point_m: Float[Tensor, "scenes 3 points"],
        along_m: Float[Tensor, "scenes 3 steps"],
        steps: Int[Tensor, "3 shifts"],
    ) -> Int[Tensor, "scenes points shifts"]:
        """``cells_of`` of each point under every shift, which takes one of the steps along each axis."""
        laid = point_m[..., None] + (along_m - self.corner_m[..., None])[:, :, None]
        x, y, z = _cells_from(laid, self.cell_m).unbind(1)
        of_point = steps[:, None, None].expand(-1, *x.shape[:2], -1)
        cell = (x * GRID_CELLS**2).gather(2, of_point[0])
        return cell.add_((y * GRID_CELLS).gather(2, of_point[1])).add_(z.gather(2, of_point[2]))


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
    height, width = is_kept.shape[2:]
    # Coordinate by coordinate and colour by colour: planes are read several times faster than rows.
    point = rearrange(point_map_m, "s f h w c -> s f c (h w)").contiguous()
    rgb = rearrange(color, "s f h w c -> s f c (h w)").contiguous()
    is_point = rearrange(is_kept, "s f h w -> s f (h w)")
    # All points fill the grids; everything else is asked of the few that moved.
    index, is_left = _evenly(is_point & rearrange(is_moved, "s f h w -> s f (h w)"))
    place, own_color = _at(point, index), _at(rgb, index)
    displacement = torch.zeros_like(place)
    no_shift = point.new_zeros(len(point), 3)
    grids: list[_ColoredGrid] = []
    for _ in range(num_bodies):
        witness = _evenly(is_left, WITNESSES)
        is_enough = witness[1].sum((1, 2)) >= FEWEST_WITNESSES
        if not bool(is_enough.any()):
            break
        grids = grids or _colored_grids(point, rgb, is_point, _median_point(place, is_left), cell_m=cell_m)
        far = _Search(no_shift, max_shift_m, COARSE_STEP_CELLS * cell_m, is_round=True)
        shift = far.best(_votes(far, place, own_color, witness, grids))
        near = _Search(shift, COARSE_STEP_CELLS * cell_m, FINE_STEP_CELLS * cell_m)
        shift = near.mean(_votes(near, place, own_color, witness, grids))
        fit = [
            grids[1 - frame].likeness(
                grids[1 - frame].cells_of(place[:, frame] + sign * shift[..., None]), own_color[:, frame]
            )
            for frame, sign in _SIGNS
        ]
        is_body = is_left & (torch.stack(fit, dim=1) >= EXPLAINED) & is_enough[:, None, None]
        witness = _evenly(is_body, FINE_WITNESSES)
        if not witness[1].numel():
            break  # no scene has a body, and the next search would be this one again
        fine_m = FINE_CELL_SHARE * cell_m
        fine_grids = _colored_grids(point, rgb, is_point, _median_point(place, is_body), cell_m=fine_m)
        nearer = _Search(shift, COARSE_STEP_CELLS * fine_m, FINE_STEP_CELLS * fine_m)
        shift = nearer.mean(_votes(nearer, place, own_color, witness, fine_grids))
        displacement = torch.where(is_body[:, :, None], shift[:, None, :, None], displacement)
        is_left = is_left & ~is_body
    # Added, because what fills up a shorter list has a place, too, and a displacement of zero.
    to_points = torch.zeros_like(point).scatter_add_(3, _for_each_axis(index), displacement)
    return rearrange(to_points, "s f c (h w) -> s f h w c", h=height, w=width).contiguous()


@dataclass(frozen=True)
class _Search:
    """Shifts to try: whole steps along each axis about a centre, up to a radius.

    Attributes:
        is_round: no shift is longer than the radius; otherwise none is along any axis.
    """

    centre_m: Float[Tensor, "scenes 3"]
    radius_m: float
    step_m: float
    is_round: bool = False

    @cached_property
    def steps(self) -> Int[Tensor, "3 shifts"]:
        """Which of the steps every shift takes along each axis, x slowest."""
        offset = _offset_m(self.radius_m, self.step_m)
        steps = torch.cartesian_prod(*[torch.arange(len(offset))] * 3)
        if self.is_round:
            steps = steps[offset[steps].norm(dim=1) <= self.radius_m * (1 + 1e-6)]
        return steps.T.to(self.centre_m.device)

    @cached_property
    def along_m(self) -> Float[Tensor, "scenes 3 steps"]:
        """Shifts along each axis."""
        return self.centre_m[..., None] + _offset_m(self.radius_m, self.step_m).to(self.centre_m.device)

    @property
    def shift_m(self) -> Float[Tensor, "scenes shifts 3"]:
        """Every shift."""
        return self.along_m.mT.gather(1, self.steps.T.expand(len(self.centre_m), -1, -1))

    def best(self, votes: Float[Tensor, "scenes shifts"]) -> Float[Tensor, "scenes 3"]:
        """The shift with the most votes."""
        return self.shift_m.gather(1, votes.argmax(1)[:, None, None].expand(-1, -1, 3))[:, 0]

    def mean(self, votes: Float[Tensor, "scenes shifts"]) -> Float[Tensor, "scenes 3"]:
        """Mean of the shifts, those with the most votes weighing most."""
        weight = torch.softmax(votes / TEMPERATURE, dim=1)
        return (weight[..., None] * self.shift_m).sum(1)


def _offset_m(radius_m: float, step_m: float) -> Float[Tensor, " steps"]:
    """Whole steps along one axis, up to a radius on both sides."""
    reach = int(radius_m / step_m + 1e-6)
    return torch.arange(-reach, reach + 1) * step_m


_Witnesses = tuple[Int[Tensor, "scenes 2 witnesses"], Bool[Tensor, "scenes 2 witnesses"]]


def _votes(
    search: _Search,
    place: Float[Tensor, "scenes 2 3 moved"],
    color: Float[Tensor, "scenes 2 3 moved"],
    witness: _Witnesses,
    grids: list[_ColoredGrid],
) -> Float[Tensor, "scenes shifts"]:
    """Mean likeness of the witnesses of both frames where each shift would lay them in the other frame."""
    index, is_real = witness
    place, color = _at(place, index), _at(color, index)
    along_m, steps = search.along_m, search.steps
    votes = place.new_zeros(())
    for frame, sign in _SIGNS:
        grid = grids[1 - frame]
        fit = grid.likeness(grid.cells_of_shifted(place[:, frame], sign * along_m, steps), color[:, frame])
        votes = votes + torch.einsum("spk,sp->sk", fit, is_real[:, frame].to(fit.dtype))
    return votes / is_real.sum((1, 2))[:, None].clamp(min=1)


def _colored_grids(
    point: Float[Tensor, "scenes 2 3 points"],
    rgb: Float[Tensor, "scenes 2 3 points"],
    is_point: Bool[Tensor, "scenes 2 points"],
    middle_m: Float[Tensor, "scenes 3"],
    *,
    cell_m: float,
) -> list[_ColoredGrid]:
    corner = middle_m - GRID_CELLS / 2 * cell_m
    return [_colored_grid(point[:, f], rgb[:, f], is_point[:, f], corner, cell_m) for f in (0, 1)]


def _colored_grid(
    point: Float[Tensor, "scenes 3 points"],
    rgb: Float[Tensor, "scenes 3 points"],
    is_point: Bool[Tensor, "scenes points"],
    corner_m: Float[Tensor, "scenes 3"],
    cell_m: float,
) -> _ColoredGrid:
    # Planes of count, red, green and blue.
    mass = torch.stack([torch.ones_like(rgb[:, 0]), *rgb.unbind(1)]) * is_point
    index = _cells_of(point, corner_m, cell_m)
    grid = rgb.new_zeros(4, len(point), GRID_CELLS**3).scatter_add_(2, index.expand(4, -1, -1), mass)
    grid = grid.view(4, -1, GRID_CELLS, GRID_CELLS, GRID_CELLS)
    _empty_border(grid)  # where all that lies outside was counted
    _blur_planes(grid)
    color = grid[1:].div_(grid[:1].clamp(min=1e-6))
    presence = grid[0].clamp_(max=1.0)
    _empty_border(presence)
    return _ColoredGrid(corner_m, presence.flatten(1), color.flatten(2), cell_m)


def _cells_of(
    point_m: Float[Tensor, "scenes 3 points"], corner_m: Float[Tensor, "scenes 3"], cell_m: float
) -> Int[Tensor, "scenes points"]:
    return cell_number(_cells_from(point_m - corner_m[..., None], cell_m).movedim(1, -1), GRID_CELLS)


def _cells_from(from_corner_m: Tensor, cell_m: float) -> Tensor:
    """Cell along each axis; the nearest of the border for what lies outside."""
    return (from_corner_m / cell_m).floor_().clamp_(0, GRID_CELLS - 1).long()


def _empty_border(grid: Float[Tensor, "*batch x y z"]) -> None:
    for axis in (-3, -2, -1):
        grid.narrow(axis, 0, 1).zero_()
        grid.narrow(axis, GRID_CELLS - 1, 1).zero_()


def _blur_planes(grid: Float[Tensor, "planes scenes x y z"]) -> None:
    """Each cell and half of its two neighbours along each axis, then along the next."""
    spare = torch.empty_like(grid[0])  # for one plane at a time: new memory costs more than the sums
    for plane in grid:
        _blur(plane, -3, out=spare)
        _blur(spare, -2, out=plane)
        _blur(plane, -1, out=spare)
        plane.copy_(spare)


def _blur(grid: Float[Tensor, "scenes x y z"], axis: int, *, out: Float[Tensor, "scenes x y z"]) -> None:
    rest = GRID_CELLS - 1
    first, last = grid.narrow(axis, 0, rest), grid.narrow(axis, 1, rest)
    out.narrow(axis, 0, 1).copy_(grid.narrow(axis, 0, 1))
    torch.add(last, first, alpha=0.5, out=out.narrow(axis, 1, rest))
    out.narrow(axis, 0, rest).add_(last, alpha=0.5)


def _median_point(
    place: Float[Tensor, "scenes 2 3 moved"], is_counted: Bool[Tensor, "scenes 2 moved"]
) -> Float[Tensor, "scenes 3"]:
    """Median along each axis; zero where nothing is counted."""
    counted = place.masked_fill(~is_counted[:, :, None], torch.nan)
    return rearrange(counted, "s f c m -> s c (f m)").nanmedian(dim=2).values.nan_to_num(0.0)


def _evenly(is_candidate: Bool[Tensor, "scenes 2 points"], at_most: int | None = None) -> _Witnesses:
    """Candidates spread evenly over the rows of each frame; all of them where there are no more."""
    rank = is_candidate.long().cumsum(2)
    total = rank[..., -1:]
    count = int(total.max()) if total.numel() else 0
    count = count if at_most is None else min(count, at_most)
    step = torch.arange(count, device=rank.device).expand(*rank.shape[:2], -1)
    wanted = torch.where(total > count, step * total // max(count, 1), step)
    index = torch.searchsorted(rank, wanted + 1)
    return index.clamp(max=is_candidate.shape[2] - 1), wanted < total


def _at(
    values: Float[Tensor, "scenes 2 3 points"], index: Int[Tensor, "scenes 2 chosen"]
) -> Float[Tensor, "scenes 2 3 chosen"]:
    return values.gather(3, _for_each_axis(index))


def _for_each_axis(index: Int[Tensor, "scenes 2 chosen"]) -> Int[Tensor, "scenes 2 3 chosen"]:
    return index[:, :, None].expand(-1, -1, 3, -1)
