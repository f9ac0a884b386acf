"""The clouds that the tiny Concerto learns from, made by the product's own encoder, kept in memory.

Some clouds come from recorded depth and some from the tiny VGGT's, which is what the network will see in use:
noisy, without metric scale, and levelled by the first camera.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..geometry_source import GeometrySource
from ..pointcloud.batching import batch_index
from ..scene_observation import observe_scenes
from ..vggt import VGGT
from ..vggt.aggregator import normalise
from .training_scenes import TrainingScenes
from .vggt_metrics import MOVED_M, still_views

VIEWS = 2  # a pair, as in use
LEFT_OUT_SHARE = 0.2  # of the clouds lose all their colours, and as many their normals, as Concerto's do


@dataclass(frozen=True)
class PointBatch:
    """Clouds one after the other, as PTv3 reads them, and what each may be asked.

    Attributes:
        coord: metres from the middle of the box's floor.
        grid_coord: cell of each point.
        patch_index: image patch that sees the point, over all clouds: cloud · patches + patch.
        image_tokens: what a frozen image network says of each patch, standardised.
        has_moved: the point lies on something whose depth changed before a still camera.
        is_still: that the cloud's camera stood still, so that ``has_moved`` means something.
        kind: of the thing that the point lies on, an index into the simulator's kinds (room, furniture, arm,
            hand, object).
        has_color, has_normal: that the network may see the point's colour, its normal.
    """

    coord: Float[Tensor, "points 3"]
    color: Float[Tensor, "points 3"]
    normal: Float[Tensor, "points 3"]
    grid_coord: Int[Tensor, "points 3"]
    offset: Int[Tensor, " clouds"]
    patch_index: Int[Tensor, " points"]
    image_tokens: Float[Tensor, "clouds patches channels"]
    has_moved: Bool[Tensor, " points"]
    is_still: Bool[Tensor, " clouds"]
    kind: Int[Tensor, " points"]
    has_color: Bool[Tensor, " points"]
    has_normal: Bool[Tensor, " points"]

    def to(self, device: torch.device) -> PointBatch:
        """The same clouds on another device."""
        return PointBatch(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


class CloudBank:
    """Many clouds, kept one by one; a batch is a list of their numbers."""

    def __init__(self, clouds: Sequence[PointBatch], *, half_extent_m: float, voxel_size_m: float):
        self._clouds = list(clouds)
        self.half_extent_m = half_extent_m
        self.max_grid_coord = math.ceil(2 * half_extent_m / voxel_size_m) - 1

    def __len__(self) -> int:
        return len(self._clouds)

    def batch(self, numbers: Sequence[int]) -> PointBatch:
        """Join clouds in the given order."""
        clouds = [self._clouds[number] for number in numbers]
        patches = clouds[0].image_tokens.shape[1]
        return PointBatch(
            coord=torch.cat([cloud.coord for cloud in clouds]),
            color=torch.cat([cloud.color for cloud in clouds]),
            normal=torch.cat([cloud.normal for cloud in clouds]),
            grid_coord=torch.cat([cloud.grid_coord for cloud in clouds]),
            offset=torch.tensor([len(cloud.coord) for cloud in clouds]).cumsum(0),
            patch_index=torch.cat([cloud.patch_index + i * patches for i, cloud in enumerate(clouds)]),
            image_tokens=torch.cat([cloud.image_tokens for cloud in clouds]).float(),
            has_moved=torch.cat([cloud.has_moved for cloud in clouds]),
            is_still=torch.cat([cloud.is_still for cloud in clouds]),
            kind=torch.cat([cloud.kind for cloud in clouds]),
            has_color=torch.cat([cloud.has_color for cloud in clouds]),
            has_normal=torch.cat([cloud.has_normal for cloud in clouds]),
        )

    def draw(self, *, num_clouds: int, seed: int, step: int) -> PointBatch:
        """A training batch, turned and recoloured: the same for the same seed and step."""
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = self.batch(rng.integers(len(self), size=num_clouds).tolist())
        return change_points(batch, max_grid_coord=self.max_grid_coord, generator=generator)


@torch.no_grad()
def build_clouds(
    source: GeometrySource,
    image_network: VGGT,
    scenes: TrainingScenes,
    *,
    config: EncoderConfig,
    clips: np.ndarray,
    batch_clips: int = 8,
) -> list[PointBatch]:
    """A cloud for each of the first two views of each clip, as an encoder with this source would see it.

    Made where the image network is, and given back on the CPU.
    """
    patch_px = image_network.config.patch_size
    device = next(image_network.parameters()).device
    clouds = []
    for start in range(0, len(clips), batch_clips):
        numbers = clips[start : start + batch_clips]
        views = np.tile(np.arange(VIEWS), (len(numbers), 1))
        batch = scenes.read(numbers, views).to(device)
        kind = torch.from_numpy(scenes.kinds(numbers, views)).long().to(device)
        kind = rearrange(kind, "b s h w -> (b s) (h w)")
        scene = observe_scenes(source, batch.frames, batch.recorded, config=config)
        tokens = image_tokens(image_network, batch.frames)
        change = (batch.recorded.depth - batch.recorded.depth.flip(1)).abs()
        has_moved = rearrange(change > MOVED_M, "b s h w -> (b s) (h w)")
        is_still = still_views(batch.recorded).all(dim=1).repeat_interleave(VIEWS)
        width = batch.frames.shape[-1]
        cloud = scene.cloud
        row, column = cloud.pixel_index // width, cloud.pixel_index % width
        patch_index = row // patch_px * (width // patch_px) + column // patch_px
        lift = cloud.coord_m.new_tensor([0.0, 0.0, config.half_extent_m])
        ends = cloud.offset.tolist()
        for view, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
            rows = slice(first, end)
            clouds.append(
                PointBatch(
                    coord=cloud.coord_m[rows] + lift,
                    color=cloud.color[rows].clone(),
                    normal=cloud.normal[rows].clone(),
                    grid_coord=scene.grid_coord[rows].clone(),
                    offset=torch.tensor([end - first]),
                    patch_index=patch_index[rows].clone(),
                    image_tokens=tokens[view : view + 1].half(),
                    has_moved=has_moved[view, cloud.pixel_index[rows]],
                    is_still=is_still[view : view + 1],
                    kind=kind[view, cloud.pixel_index[rows]],
                    has_color=torch.ones(end - first, dtype=torch.bool),
                    has_normal=torch.ones(end - first, dtype=torch.bool),
                ).to(torch.device("cpu"))
            )
    return clouds


def nothing_withheld(batch: PointBatch) -> PointBatch:
    """The same clouds with all their colours and normals."""
    shown = torch.ones_like(batch.has_color)
    return replace(batch, has_color=shown, has_normal=shown)


def image_tokens(
    network: VGGT, frames: Float[Tensor, "scenes views 3 height width"]
) -> Float[Tensor, "frames patches channels"]:
    """What the network's image transformer says of each patch; each token to zero mean and unit spread."""
    aggregator = network.aggregator
    tokens = aggregator.patch_embed(normalise(rearrange(frames, "b s c h w -> (b s) c h w")))
    return torch.nn.functional.layer_norm(tokens, tokens.shape[-1:])


def change_points(batch: PointBatch, *, max_grid_coord: int, generator: torch.Generator) -> PointBatch:
    """Turn, mirror and recolour each cloud; at times withhold all its colours or normals.

    Quarter turns and mirroring map the grid onto itself, so that points keep distinct cells.
    """
    clouds = len(batch.offset)
    cloud = batch_index(batch.offset, len(batch.coord))

    def coin(probability: float) -> Bool[Tensor, "points 1"]:
        return (torch.rand(clouds, 1, generator=generator) < probability)[cloud]

    def uniform(low: float, high: float, channels: int) -> Float[Tensor, "points channels"]:
        return (low + (high - low) * torch.rand(clouds, channels, generator=generator))[cloud]

    coord, normal, grid = batch.coord, batch.normal, batch.grid_coord
    for axis in (0, 1):
        is_flipped = coin(0.5)
        flip = torch.ones(3)
        flip[axis] = -1.0
        coord, normal = (
            torch.where(is_flipped, coord * flip, coord),
            torch.where(is_flipped, normal * flip, normal),
        )
        flipped_grid = grid.clone()
        flipped_grid[:, axis] = max_grid_coord - grid[:, axis]
        grid = torch.where(is_flipped, flipped_grid, grid)
    is_turned, swap = coin(0.5), [1, 0, 2]
    color = (batch.color * uniform(0.7, 1.3, 1) * uniform(0.9, 1.1, 3) + uniform(-0.1, 0.1, 1)).clamp(0, 1)
    return replace(
        batch,
        coord=torch.where(is_turned, coord[:, swap], coord),
        normal=torch.where(is_turned, normal[:, swap], normal),
        grid_coord=torch.where(is_turned, grid[:, swap], grid),
        color=color,
        has_color=~coin(LEFT_OUT_SHARE)[:, 0],
        has_normal=~coin(LEFT_OUT_SHARE)[:, 0],
    )
