"""Sub-manifold sparse convolution, 3 × 3 × 3: outputs only at occupied cells, absent neighbours add nothing.

Graham, Engelcke, van der Maaten, "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
CVPR 2018. For each of the 27 offsets: gather the pairs' sources, one matrix product, add to the targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

NUM_HALF = 13  # offsets before the centre (0, 0, 0) in the order of the kernel; the rest are their mirrors
NUM_HALF_LINES = 5  # lines of three offsets along z that these lie on; the last one is the centre's own


@dataclass(frozen=True)
class NeighbourPairs:
    """Pairs of occupied cells one step apart, by kernel offset; only the first half, the rest is mirrored.

    Attributes:
        row: for each offset, rows p that have a neighbour there.
        neighbour: for each offset, the row at p + offset.
    """

    row: tuple[Int[Tensor, " _"], ...]
    neighbour: tuple[Int[Tensor, " _"], ...]


def find_neighbours(
    grid_coord: Int[Tensor, "points 3"], cloud_index: Int[Tensor, " points"], *, max_grid_coord: int
) -> NeighbourPairs:
    """Find neighbours inside each cloud by binary search among the cells' keys.

    The three neighbours in a line along z would follow one another among the keys: the line is searched for
    once, and each that is there moves the place of the next by one.
    """
    # One value of each axis is never occupied, so a step over the edge lands on an empty cell.
    side = max_grid_coord + 2
    x, y, z = grid_coord.long().unbind(1)
    key = ((cloud_index * side + x) * side + y) * side + z
    if len(key) == 0:
        return NeighbourPairs((key,) * NUM_HALF, (key,) * NUM_HALF)
    sorted_key, row_of_sorted = key.sort()
    steps = torch.arange(-1, 2, device=key.device)
    line_step = ((steps[:, None] * side + steps) * side).flatten()[:NUM_HALF_LINES]
    wanted = sorted_key + line_step[:, None] - 1
    place = torch.searchsorted(sorted_key, wanted)
    places, are_found = [], []
    for _ in range(3):
        key_there = sorted_key.index_select(0, place.clamp(max=len(key) - 1).flatten()).view_as(place)
        is_found = key_there == wanted
        places.append(place)
        are_found.append(is_found)
        place, wanted = place + is_found, wanted + 1
    is_found = torch.stack(are_found, dim=1).flatten(0, 1)[:NUM_HALF]
    lengths = is_found.sum(dim=1).tolist()
    found = is_found.flatten().nonzero().squeeze(1)
    found_place = torch.stack(places, dim=1).flatten().index_select(0, found)
    row = row_of_sorted.index_select(0, found % len(key))
    neighbour = row_of_sorted.index_select(0, found_place)
    return NeighbourPairs(row.split(lengths), neighbour.split(lengths))


class SubMConv3d(nn.Module):
    """y[p] = bias + Σ W[:, a, b, c, :] · x[q], with q the cell at p + (a − 1, b − 1, c − 1)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        bound = 1 / math.sqrt(27 * in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(
        self, feat: Float[Tensor, "points in_channels"], pairs: NeighbourPairs
    ) -> Float[Tensor, "points out_channels"]:
        """Convolve; ``pairs`` are those of the stage."""
        taps = self.weight.flatten(1, 3).unbind(1)
        out = F.linear(feat, taps[NUM_HALF], self.bias)
        for index, (row, neighbour) in enumerate(zip(pairs.row, pairs.neighbour, strict=True)):
            mirrored = taps[2 * NUM_HALF - index]
            out.index_add_(0, row, F.linear(feat.index_select(0, neighbour), taps[index]))
            out.index_add_(0, neighbour, F.linear(feat.index_select(0, row), mirrored))
        return out
