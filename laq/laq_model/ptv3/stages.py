"""A stage: its cells, the tables that its blocks share, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .patches import PatchTable, apply_order, build_patches
from .pooling import CellMembers, mean_of_members
from .serialization import Serialization, serialization_depth, serialize
from .sparse_conv import NeighbourPairs, find_neighbours
from .upcast import join_levels


@dataclass(frozen=True)
class StageCells:
    """The occupied cells of a stage, clouds one after the other.

    Attributes:
        coord: mean position of the input points of a cell, weighted cell by cell; the input's unit.
        grid_coord: the cell, counted in the stage's own cell size.
        cloud_index: cloud of each row.
        offset: end row of each cloud.
        max_grid_coord: no cell of the stage lies beyond it; it decides the number of bits on the curves.
    """

    coord: Float[Tensor, "points 3"]
    grid_coord: Int[Tensor, "points 3"]
    cloud_index: Int[Tensor, " points"]
    offset: Int[Tensor, " clouds"]
    max_grid_coord: int

    def along(self, curves: Sequence[str]) -> Serialization:
        """The rows along each curve."""
        return serialize(
            self.grid_coord,
            self.cloud_index,
            depth=serialization_depth(self.max_grid_coord),
            curves=curves,
        )


@dataclass(frozen=True)
class StageTables:
    """What the blocks of a stage look up; built once.

    Attributes:
        serialization: along the curves that the blocks follow.
        patches: by row, one table for each of these curves.
    """

    serialization: Serialization
    neighbours: NeighbourPairs
    patches: tuple[PatchTable, ...]


@dataclass(frozen=True)
class EncodedStage(StageCells):
    """One stage of the encoder: its cells, and what the network says of them.

    Attributes:
        feat: after the stage's last block.
        pooling_inverse: row of this stage for each row of the stage before; None for the first stage.
        curves: of the network; a stage with few blocks follows the first of them only.
    """

    feat: Float[Tensor, "points channels"]
    pooling_inverse: Int[Tensor, " finer_points"] | None
    curves: tuple[str, ...]

    @cached_property
    def serialization(self) -> Serialization:
        """The rows along every curve, drawn when somebody asks."""
        return self.along(self.curves)

    @property
    def code(self) -> Int[Tensor, "orders points"]:
        """Place along each curve, with the cloud in the high bits."""
        return self.serialization.code

    @property
    def order(self) -> Int[Tensor, "orders points"]:
        """Rows along each curve."""
        return self.serialization.order


@dataclass(frozen=True)
class EncodedClouds:
    """All stages, the finest first; its rows are the input's."""

    stages: tuple[EncodedStage, ...]

    def upcast(self, levels: int) -> Float[Tensor, "cells channels"]:
        """Join the deepest stage and the ``levels`` before it, on the cells of the finest of them.

        Raises:
            ValueError: there are not so many stages.
        """
        if not 0 <= levels < len(self.stages):
            raise ValueError(f"levels must be from 0 to {len(self.stages) - 1}, got {levels}")
        joined = self.stages[len(self.stages) - 1 - levels :]
        return join_levels([stage.feat for stage in joined], _inverses(joined[1:]))

    def to_points(self, levels: int) -> Float[Tensor, "points channels"]:
        """The same, repeated for every input row."""
        feat = self.upcast(levels)
        for inverse in reversed(_inverses(self.stages[1 : len(self.stages) - levels])):
            feat = feat.index_select(0, inverse)
        return feat


def _inverses(stages: Sequence[EncodedStage]) -> list[Tensor]:
    return [stage.pooling_inverse for stage in stages if stage.pooling_inverse is not None]


def pool_stage(stage: StageCells, members: CellMembers, *, stride: int) -> StageCells:
    """The cells of the next stage."""
    clouds = torch.arange(len(stage.offset), device=stage.offset.device)
    return StageCells(
        coord=mean_of_members(stage.coord, members),
        grid_coord=members.grid_coord,
        cloud_index=members.cloud_index,
        offset=torch.searchsorted(members.cloud_index, clouds, right=True),
        max_grid_coord=stage.max_grid_coord // stride,
    )


def build_tables(stage: StageCells, *, curves: Sequence[str], patch_size: int) -> StageTables:
    """Orders, neighbours and patches of a stage."""
    serialization = stage.along(curves)
    ends = stage.offset.tolist()
    counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    patches = build_patches(counts, patch_size, cloud_index=stage.cloud_index)
    return StageTables(
        serialization=serialization,
        neighbours=find_neighbours(stage.grid_coord, stage.cloud_index, max_grid_coord=stage.max_grid_coord),
        patches=tuple(
            apply_order(patches, order, rank)
            for order, rank in zip(serialization.order, serialization.rank, strict=True)
        ),
    )
