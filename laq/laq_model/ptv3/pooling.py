"""Grid pooling between stages: points of one coarser cell become one point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class CellMembers:
    """The coarser cells and who belongs to them.

    Attributes:
        grid_coord: the coarser cells, in lexicographic order of (cloud, x, y, z).
        cloud_index: cloud of each coarser cell.
        inverse: coarser cell of each old row.
        count: old rows of each coarser cell.
    """

    grid_coord: Int[Tensor, "cells 3"]
    cloud_index: Int[Tensor, " cells"]
    inverse: Int[Tensor, " points"]
    count: Int[Tensor, " cells"]


def find_members(
    grid_coord: Int[Tensor, "points 3"],
    cloud_index: Int[Tensor, " points"],
    *,
    stride: int,
    max_grid_coord: int,
) -> CellMembers:
    """Group the rows of each cloud by ``grid_coord // stride``."""
    side = max_grid_coord // stride + 1
    x, y, z = grid_coord.long().div(stride, rounding_mode="floor").unbind(1)
    key, inverse, count = torch.unique(
        ((cloud_index * side + x) * side + y) * side + z, return_inverse=True, return_counts=True
    )
    rest, z = key.div(side, rounding_mode="floor"), key % side
    rest, y = rest.div(side, rounding_mode="floor"), rest % side
    cells = torch.stack([rest % side, y, z], dim=1).to(grid_coord.dtype)
    return CellMembers(cells, rest.div(side, rounding_mode="floor"), inverse, count)


def mean_of_members(
    value: Float[Tensor, "points channels"], members: CellMembers
) -> Float[Tensor, "cells channels"]:
    """Average over the members of each cell."""
    total = value.new_zeros(len(members.count), value.shape[1]).index_add(0, members.inverse, value)
    return total / members.count[:, None]


def max_of_members(
    value: Float[Tensor, "points channels"], members: CellMembers
) -> Float[Tensor, "cells channels"]:
    """Largest value of each channel over the members of each cell."""
    index = members.inverse[:, None].expand_as(value)
    start = value.new_zeros(len(members.cloud_index), value.shape[1])
    return start.scatter_reduce(0, index, value, "amax", include_self=False)


class GridPooling(nn.Module):
    """Project, take the maximum over each cell, normalise, GELU."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels)
        self.norm = nn.Sequential(nn.LayerNorm(out_channels))
        self.act = nn.GELU()

    def forward(
        self, feat: Float[Tensor, "points in_channels"], members: CellMembers
    ) -> Float[Tensor, "cells out_channels"]:
        """Features of the coarser cells."""
        return self.act(self.norm(max_of_members(self.proj(feat), members)))
