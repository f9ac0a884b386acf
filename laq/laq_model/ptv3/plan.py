"""Everything that follows from the cells alone: stages, orders, neighbours and patches, before any feature.

All questions whose answer the host needs (how many cells, pairs, patches) are asked here. The blocks that run
on a plan afterwards ask none, so a GPU never waits for the host between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import GeometryError
from .config import PTv3Config
from .pooling import CellMembers, find_members
from .serialization import check_code_fits
from .stages import StageCells, StageTables, build_tables, pool_stage


@dataclass(frozen=True)
class StagePlan:
    """A stage before its features.

    Attributes:
        members: which rows of the stage before share a cell of this one; None for the first stage.
    """

    cells: StageCells
    tables: StageTables
    members: CellMembers | None


def plan_stages(
    config: PTv3Config,
    *,
    coord: Float[Tensor, "points 3"],
    grid_coord: Int[Tensor, "points 3"],
    offset: Int[Tensor, " clouds"],
    max_grid_coord: int | None,
) -> list[StagePlan]:
    """Plan every stage, the finest first.

    Raises:
        GeometryError: a cell is negative, repeated, beyond the bound or too large, or offsets do not fit.
    """
    cells = _first_cells(coord, grid_coord, offset, max_grid_coord)
    # Each block of a stage follows a curve of its own; what no block follows is not drawn.
    curves = [config.order[: max(1, num_blocks)] for num_blocks in config.enc_depths]
    tables = build_tables(cells, curves=curves[0], patch_size=config.enc_patch_size[0])
    _check_distinct(tables)
    plans = [StagePlan(cells, tables, None)]
    deeper = zip(config.stride, curves[1:], config.enc_patch_size[1:], strict=True)
    for stride, stage_curves, patch_size in deeper:
        members = find_members(
            cells.grid_coord, cells.cloud_index, stride=stride, max_grid_coord=cells.max_grid_coord
        )
        cells = pool_stage(cells, members, stride=stride)
        plans.append(
            StagePlan(cells, build_tables(cells, curves=stage_curves, patch_size=patch_size), members)
        )
    return plans


def _first_cells(
    coord: Float[Tensor, "points 3"],
    grid_coord: Int[Tensor, "points 3"],
    offset: Int[Tensor, " clouds"],
    max_grid_coord: int | None,
) -> StageCells:
    """Check the input at the door and number its clouds."""
    ends = offset.tolist()
    if (ends[-1] if ends else 0) != len(grid_coord) or ends != sorted(ends) or any(end < 0 for end in ends):
        raise GeometryError(f"offset {ends} must ascend to the number of rows, {len(grid_coord)}")
    smallest, largest = _range_of(grid_coord)
    if smallest < 0:
        raise GeometryError(f"grid_coord must not be negative, got {smallest}; subtract the minimum first")
    if max_grid_coord is None:
        max_grid_coord = largest
    elif largest > max_grid_coord:
        raise GeometryError(f"grid_coord reaches {largest}, beyond max_grid_coord={max_grid_coord}")
    check_code_fits(max_grid_coord, num_clouds=len(ends))
    rows = torch.arange(len(grid_coord), device=grid_coord.device)
    offset = offset.to(grid_coord.device, torch.long)
    return StageCells(
        coord=coord,
        grid_coord=grid_coord,
        cloud_index=torch.searchsorted(offset, rows, right=True),
        offset=offset,
        max_grid_coord=max_grid_coord,
    )


def _range_of(grid_coord: Int[Tensor, "points 3"]) -> tuple[int, int]:
    if len(grid_coord) == 0:
        return 0, 0
    smallest, largest = torch.stack(grid_coord.aminmax()).tolist()
    return smallest, largest


def _check_distinct(tables: StageTables) -> None:
    serialization = tables.serialization
    code = serialization.code[0, serialization.order[0]]
    if bool((code[1:] == code[:-1]).any()):
        raise GeometryError("grid_coord repeats a cell inside a cloud; keep one point for each occupied cell")
