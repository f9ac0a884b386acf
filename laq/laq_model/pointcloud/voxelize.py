"""One point for each occupied cell of a grid, picked without chance.

Departure from Concerto's transform, which draws the point of a cell at random: the point nearest to the
cell's centre is taken, so that the same cloud always gives the same features. Divisions are in float64,
because cells at borders otherwise depend on the precision of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ..errors import GeometryError

CONCERTO_VOXEL_SIZE_M = 0.02  # the grid that Concerto was trained on
_MAX_KEY = 2**62


@dataclass(frozen=True)
class Voxels:
    """The occupied cells, ordered by cloud, then x, y, z.

    Attributes:
        grid_coord: cell of each kept point.
        kept: row of the input that stands for the cell.
        inverse: for each input row, its cell's number in this order.
    """

    grid_coord: Int[Tensor, "voxels 3"]
    kept: Int[Tensor, " voxels"]
    inverse: Int[Tensor, " points"]


@dataclass(frozen=True)
class ConcertoInput:
    """One cloud as Concerto's encoder reads it; the offset of a single cloud is its length.

    Attributes:
        coord: metres, z up, middle of x and y ranges and lowest z at 0.
        grid_coord: cell, counted from 0 along each axis.
        feat: coordinates, colour in [0, 1], normal.
        inverse: for each raw point, the row that holds its cell; features of all points are feat[inverse].
    """

    coord: Float[Tensor, "voxels 3"]
    grid_coord: Int[Tensor, "voxels 3"]
    feat: Float[Tensor, "voxels 9"]
    offset: Int[Tensor, " 1"]
    inverse: Int[Tensor, " points"]


def cells_of(
    coord: Float[Tensor, "*points 3"], *, voxel_size: float, origin: Float[Tensor, " 3"] | float
) -> Int[Tensor, "*points 3"]:
    """The cell of each point: floor((coord − origin) / voxel_size), in float64."""
    return ((coord.double() - origin) / voxel_size).floor().long()


def voxelize(
    coord: Float[Tensor, "points 3"],
    batch: Int[Tensor, " points"],
    *,
    voxel_size: float,
    origin: Float[Tensor, " 3"] | float,
) -> Voxels:
    """One point for each occupied cell of each cloud: nearest to the cell's centre, ties to the smallest row.

    Args:
        coord: any unit; finite.
        batch: cloud number of each point.
        voxel_size: side of a cell, in the unit of ``coord``.
        origin: a corner of the grid, in the unit of ``coord``; give all clouds that are compared the same
            one.

    Raises:
        GeometryError: a point is not finite, or the cells are too many to number.
    """
    if not bool(torch.isfinite(coord).all()):
        raise GeometryError("cannot voxelize points that are not finite; filter them first")
    grid_coord = cells_of(coord, voxel_size=voxel_size, origin=origin)
    from_centre = (coord.double() - origin) / voxel_size - grid_coord - 0.5
    x, y, z = from_centre.unbind(-1)
    by_distance = torch.argsort(x * x + y * y + z * z, stable=True)
    key = _cell_key(grid_coord, batch)
    order = by_distance[torch.argsort(key[by_distance], stable=True)]
    sorted_key = key[order]
    is_first = torch.ones_like(sorted_key, dtype=torch.bool)
    is_first[1:] = sorted_key[1:] != sorted_key[:-1]
    inverse = torch.empty_like(order)
    inverse[order] = is_first.cumsum(0) - 1
    kept = order[is_first]
    return Voxels(grid_coord[kept], kept, inverse)


def concerto_transform(
    coord: Float[Tensor, "points 3"], color: UInt8[Tensor, "points 3"], normal: Float[Tensor, "points 3"]
) -> ConcertoInput:
    """Concerto's default preparation of one raw cloud: centre, voxelize at 2 cm, colour / 255, join channels.

    Centring subtracts the middle of the x and y ranges and the smallest z. Unlike the original this leaves
    the caller's tensor as it is. It is for single clouds: frames that are compared need one shared box
    (scale.py).

    Args:
        coord: metres, z up.
        color: 0 to 255.
        normal: unit vectors, or zeros.

    Source: Concerto (Zhang et al. 2025), public code's default transform.
    """
    if len(coord) == 0:
        raise GeometryError("a cloud without points cannot be prepared for Concerto")
    low, high = coord.amin(dim=0), coord.amax(dim=0)
    shift = torch.cat([(low + high)[:2] / 2, low[2:]])
    centred = coord - shift
    one_cloud = torch.zeros(len(coord), dtype=torch.long, device=coord.device)
    voxels = voxelize(centred, one_cloud, voxel_size=CONCERTO_VOXEL_SIZE_M, origin=0.0)
    kept_coord = centred[voxels.kept].float()
    return ConcertoInput(
        coord=kept_coord,
        grid_coord=voxels.grid_coord - voxels.grid_coord.amin(dim=0),
        feat=torch.cat([kept_coord, color[voxels.kept].float() / 255, normal[voxels.kept].float()], dim=-1),
        offset=torch.tensor([len(voxels.kept)], device=coord.device),
        inverse=voxels.inverse,
    )


def _cell_key(grid_coord: Int[Tensor, "points 3"], batch: Int[Tensor, " points"]) -> Int[Tensor, " points"]:
    """A number for each (cloud, x, y, z) that sorts in this order."""
    if len(batch) == 0:
        return batch.long()
    low = grid_coord.amin(dim=0)
    size = grid_coord.amax(dim=0) - low + 1
    size_x, size_y, size_z, last = torch.cat([size, batch.amax(dim=0, keepdim=True)]).tolist()
    if size_x * size_y * size_z * (last + 1) >= _MAX_KEY:
        raise GeometryError(
            f"a grid of {size_x} x {size_y} x {size_z} cells cannot be numbered; "
            "use a larger voxel or drop stray points"
        )
    x, y, z = (grid_coord - low).unbind(-1)
    return ((batch.long() * size_x + x) * size_y + y) * size_z + z
