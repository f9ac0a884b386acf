"""What the tiny Concerto is trained to say: what is hidden from it, and what an image network sees there.

Source: Concerto (Zhang et al. 2025, arXiv 2510.23607): joint 2D-3D self-supervision of a PTv3. Departures, so
that minutes on a CPU suffice: points are asked for what is hidden of their own place, colour and normal,
instead of a teacher's features (``self_distillation``) or beside them, and the image network is the tiny
VGGT's image transformer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..ptv3 import PointTransformerV3
from .point_clouds import PointBatch
from .self_distillation import Prototypes

MIN_POINTS_OF_PATCH = 4  # a patch with fewer points says little
OWN_CHANNELS = 9  # place, colour, normal


@dataclass(frozen=True)
class MaskConfig:
    """What is hidden from the network."""

    share: float = 0.6
    """Share of blocks that are hidden."""
    block_cells: int = 8
    """Side of a block, in cells of the first stage."""


class PretrainingModel(nn.Module):
    """The network, and small heads on the joined features of all its stages, which do not ship."""

    def __init__(self, network: PointTransformerV3, image_channels: int, hidden: int = 128):
        super().__init__()
        channels = sum(network.config.enc_channels)
        self.network = network
        self.own = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, OWN_CHANNELS)
        )
        self.image = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, image_channels)
        )
        self.prototypes = Prototypes(channels, hidden)


def block_mask(
    grid_coord: Int[Tensor, "points 3"],
    cloud_index: Int[Tensor, " points"],
    *,
    config: MaskConfig,
    generator: torch.Generator,
) -> Bool[Tensor, " points"]:
    """Hide whole blocks: each block of each cloud by its own throw."""
    block = grid_coord // config.block_cells
    side = int(block.max()) + 1
    number = ((cloud_index * side + block[:, 0]) * side + block[:, 1]) * side + block[:, 2]
    is_hidden = torch.rand(int(number.max()) + 1, generator=generator) < config.share
    return is_hidden.to(number.device)[number]  # thrown on the CPU: the same on any device


def own_targets(batch: PointBatch, *, half_extent_m: float) -> Float[Tensor, "points 9"]:
    """Place, colour and normal, each brought to about unit spread."""
    middle = batch.coord.new_tensor([0.0, 0.0, half_extent_m])
    return torch.cat(
        [2 * (batch.coord - middle) / half_extent_m, 4 * (batch.color - 0.5), batch.normal], dim=1
    )


def is_asked(batch: PointBatch, is_hidden: Bool[Tensor, " points"]) -> Bool[Tensor, "points 9"]:
    """Which of its own numbers a point does not see: all under the mask, else what its cloud withholds."""
    asked = torch.stack([is_hidden, is_hidden | ~batch.has_color, is_hidden | ~batch.has_normal], dim=1)
    return asked.repeat_interleave(OWN_CHANNELS // 3, dim=1)


def own_loss(
    predicted: Float[Tensor, "points 9"],
    target: Float[Tensor, "points 9"],
    asked: Bool[Tensor, "points 9"],
) -> Float[Tensor, ""]:
    """Mean smooth L1 over what is asked; 0 without any."""
    loss = F.smooth_l1_loss(predicted, target, reduction="none", beta=0.5)
    return (loss * asked).sum() / asked.sum().clamp(min=1)


def mean_of_patches(
    feat: Float[Tensor, "points channels"], patch_index: Int[Tensor, " points"], num_patches: int
) -> tuple[Float[Tensor, "patches channels"], Int[Tensor, " patches"]]:
    """Mean feature of the points that a patch sees, and their number."""
    count = torch.bincount(patch_index, minlength=num_patches)
    total = feat.new_zeros(num_patches, feat.shape[1]).index_add(0, patch_index, feat)
    return total / count.clamp(min=1)[:, None], count


def image_loss(
    predicted: Float[Tensor, "patches channels"],
    target: Float[Tensor, "patches channels"],
    count: Int[Tensor, " patches"],
) -> Float[Tensor, ""]:
    """One minus the cosine, over patches that enough points see; 0 without any."""
    distance = 1 - F.cosine_similarity(predicted, target, dim=1)
    is_counted = count >= MIN_POINTS_OF_PATCH
    return (distance * is_counted).sum() / is_counted.sum().clamp(min=1)
