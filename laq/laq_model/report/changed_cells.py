"""Which cells of the world changed between two frames, by the rule that chooses the action model's tokens.

Only a cell that both frames see can testify: what merely comes into or goes out of view is no motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..errors import GeometryError
from ..pointcloud.batching import batch_index
from ..pointcloud.cell_pooling import cell_number, pool_cells
from ..pointcloud.place_states import place_states
from ..pointcloud.voxelize import cells_of
from ..scene_observation import SceneObservation
from ..structures import FREE, OCCUPIED, UNKNOWN

# What happened in a cell. NO_CELL is for pixels that became no point, or lie outside the box.
NO_CELL, UNSEEN, SAME, VANISHED, APPEARED, RECOLOURED = -1, 0, 1, 2, 3, 4
COLOUR_CHANGE = 0.1  # of [0, 1]: a smaller change of a cell's mean colour is noise of the video's compression


@dataclass(frozen=True)
class ChangedCells:
    """What happened between the two views of one scene.

    Attributes:
        kind: of each cell that holds points of either frame: UNSEEN by one of them, SAME, VANISHED (occupied,
            then free), APPEARED (free, then occupied) or RECOLOURED (occupied in both, another mean colour).
        kind_of_point: the kind of each point's cell, for the points of ``scene.cloud``.
        kind_of_pixel: likewise for each kept pixel of both frames; NO_CELL where it has no point, or its cell
            has none left after subsampling.
    """

    kind: Int[Tensor, " cells"]
    kind_of_point: Int[Tensor, " points"]
    kind_of_pixel: Int[Tensor, "2 height width"]

    def count(self, kind: int) -> int:
        """Cells of this kind."""
        return int((self.kind == kind).sum())


def find_changed_cells(scene: SceneObservation, config: EncoderConfig) -> ChangedCells:
    """Compare the two views of one scene, cell by cell.

    Args:
        scene: one scene of two views, current first.
        config: the encoder's; its cells and box are used.

    Raises:
        GeometryError: not one scene of two views.
    """
    if tuple(scene.is_kept.shape[:2]) != (1, 2):
        raise GeometryError(
            f"one scene of two frames can be compared, got {tuple(scene.is_kept.shape[:2])} (scenes, views)"
        )
    cells = pool_cells(
        scene.cloud.coord_m[:, :0],
        scene.cloud,
        views=2,
        cell_size_m=config.cell_size_m,
        half_extent_m=config.half_extent_m,
    )
    state = place_states(cells)[0]
    current_color, future_color = cells.feat[0, :, :, -3:]
    kind = _kind_of_cell(state, (future_color - current_color).abs().amax(dim=-1))

    per_axis = math.ceil(2 * config.half_extent_m / config.cell_size_m)
    kind_at = torch.full((per_axis**3,), NO_CELL)
    kind_at[_place(cells.centre_m[0], config, per_axis)] = kind.cpu()
    point_map, half = scene.point_map_m[0], config.half_extent_m
    is_point = scene.is_kept[0] & ((point_map >= -half) & (point_map < half)).all(dim=-1)
    kind_of_pixel = torch.full(is_point.shape, NO_CELL)
    kind_of_pixel[is_point.cpu()] = kind_at[_place(point_map[is_point], config, per_axis)]
    return ChangedCells(
        kind=kind.cpu(),
        kind_of_point=kind_at[_place(scene.cloud.coord_m, config, per_axis)],
        kind_of_pixel=kind_of_pixel,
    )


def view_of_point(scene: SceneObservation) -> Int[Tensor, " points"]:
    """Which view each point of the cloud belongs to."""
    return batch_index(scene.cloud.offset, len(scene.cloud.coord_m)).cpu() % scene.is_kept.shape[1]


def _kind_of_cell(state: Int[Tensor, "2 cells"], colour_change: Tensor) -> Int[Tensor, " cells"]:
    before, after = state
    kind = torch.full_like(before, SAME)
    kind[(before == OCCUPIED) & (after == OCCUPIED) & (colour_change > COLOUR_CHANGE)] = RECOLOURED
    kind[(before == OCCUPIED) & (after == FREE)] = VANISHED
    kind[(before == FREE) & (after == OCCUPIED)] = APPEARED
    kind[(before == UNKNOWN) | (after == UNKNOWN)] = UNSEEN
    return kind


def _place(coord_m: Tensor, config: EncoderConfig, per_axis: int) -> Int[Tensor, " points"]:
    """A number for the cell of each point, by the same rule as ``pool_cells``."""
    cell = cells_of(coord_m, voxel_size=config.cell_size_m, origin=-config.half_extent_m)
    return cell_number(cell.clamp(0, per_axis - 1).cpu(), per_axis)
