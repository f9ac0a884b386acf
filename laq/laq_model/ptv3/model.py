"""The encoder: embedding, then stages of pooling and blocks.

Departs from the released code where that is not repeatable: curves are never shuffled, networks are built in
eval mode, and the number of bits on the curves can be fixed (``max_grid_coord``), so that a cloud's features
do not depend on the clouds beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .blocks import Block
from .config import PTv3Config, parse_config
from .plan import StagePlan, plan_stages
from .pooling import GridPooling
from .stages import EncodedClouds, EncodedStage, StageTables


class Embedding(nn.Module):
    """Linear, LayerNorm, GELU; masked points get the learned token instead."""

    def __init__(self, in_channels: int, channels: int, *, has_mask_token: bool):
        super().__init__()
        if has_mask_token:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, channels), std=0.02))
        else:
            self.register_parameter("mask_token", None)
        self.stem = nn.Sequential(
            OrderedDict(linear=nn.Linear(in_channels, channels), norm=nn.LayerNorm(channels), act=nn.GELU())
        )

    def forward(
        self, feat: Float[Tensor, "points in_channels"], mask: Bool[Tensor, " points"] | None = None
    ) -> Float[Tensor, "points channels"]:
        """Features of the first stage before its blocks."""
        feat = self.stem(feat)
        if mask is None:
            return feat
        if self.mask_token is None:
            raise ValueError("mask was given, but the network was built with mask_token=False")
        return torch.where(mask[:, None], self.mask_token.to(feat.dtype), feat)


class Stage(nn.Module):
    """Pooling (``down``, but for the first stage) and blocks ``block0``, ``block1``, …"""

    def __init__(self, config: PTv3Config, *, stage: int, drop_path: tuple[float, ...]):
        super().__init__()
        self.down = GridPooling(*config.enc_channels[stage - 1 : stage + 1]) if stage else None
        self.num_blocks = len(drop_path)
        for index, rate in enumerate(drop_path):
            self.add_module(f"block{index}", Block(config, stage=stage, drop_path=rate))

    def forward(
        self, feat: Float[Tensor, "points channels"], tables: StageTables
    ) -> Float[Tensor, "points channels"]:
        """Run the blocks, each along its own curve."""
        for index in range(self.num_blocks):
            block = self.get_submodule(f"block{index}")
            feat = block(feat, tables.neighbours, tables.patches[index % len(tables.patches)])
        return feat


class PointTransformerV3(nn.Module):
    """The encoder of Concerto and Sonata; ``state_dict`` has the keys of the published checkpoints."""

    def __init__(self, config: PTv3Config):
        super().__init__()
        self.config = config
        self.embedding = Embedding(
            config.in_channels, config.enc_channels[0], has_mask_token=config.mask_token
        )
        rates = _drop_path_rates(config)
        self.enc = nn.ModuleDict(
            {f"enc{stage}": Stage(config, stage=stage, drop_path=rate) for stage, rate in enumerate(rates)}
        )

    def forward(
        self,
        *,
        coord: Float[Tensor, "points 3"],
        grid_coord: Int[Tensor, "points 3"],
        feat: Float[Tensor, "points in_channels"],
        offset: Int[Tensor, " clouds"],
        max_grid_coord: int | None = None,
        mask: Bool[Tensor, " points"] | None = None,
    ) -> EncodedClouds:
        """Encode clouds that stand one after the other.

        Args:
            coord: positions, metres; only averaged into the stages' ``coord``.
            grid_coord: occupied cells, counted from 0; distinct inside a cloud.
            feat: channels of each point, in the published models x y z | r g b | normal.
            offset: end row of each cloud; empty clouds are allowed.
            max_grid_coord: a bound on ``grid_coord`` that fixes the number of bits on the curves. With it, a
                cloud's features do not depend on the clouds beside it; without it, the batch's largest cell
                decides, as in the released code.
            mask: points whose embedding is replaced by the learned token, for masked training.

        Raises:
            GeometryError: a cell is negative, repeated, beyond the bound or too large, or offsets do not fit.
        """
        plans = plan_stages(
            self.config, coord=coord, grid_coord=grid_coord, offset=offset, max_grid_coord=max_grid_coord
        )
        return self.encode(plans, feat, mask=mask)

    def encode(
        self,
        plans: Sequence[StagePlan],
        feat: Float[Tensor, "points in_channels"],
        *,
        mask: Bool[Tensor, " points"] | None = None,
    ) -> EncodedClouds:
        """Run the network on clouds that were planned already; asks the device nothing."""
        hidden = self.embedding(feat, mask)
        stages = []
        for number, plan in enumerate(plans):
            stage = self.enc.get_submodule(f"enc{number}")
            if plan.members is not None:
                hidden = stage.get_submodule("down")(hidden, plan.members)
            hidden = stage(hidden, plan.tables)
            stages.append(_encoded(hidden, plan, curves=self.config.order))
        return EncodedClouds(tuple(stages))

    def official_shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor under its published key."""
        return {key: value.shape for key, value in self.state_dict().items()}


def build_ptv3(config: Mapping[str, Any]) -> PointTransformerV3:
    """Build the encoder from a checkpoint's ``config``, in eval mode, with random weights.

    Raises:
        ConfigError: an entry cannot work, or asks for a variant without published weights.
    """
    return PointTransformerV3(parse_config(config)).eval()


def _drop_path_rates(config: PTv3Config) -> list[tuple[float, ...]]:
    """Rates of each stage's blocks, rising linearly over all blocks."""
    total = sum(config.enc_depths)
    rates = [config.drop_path * index / max(total - 1, 1) for index in range(total)]
    starts = [sum(config.enc_depths[:stage]) for stage in range(len(config.enc_depths))]
    return [
        tuple(rates[start : start + depth]) for start, depth in zip(starts, config.enc_depths, strict=True)
    ]


def _encoded(
    feat: Float[Tensor, "points channels"], plan: StagePlan, *, curves: tuple[str, ...]
) -> EncodedStage:
    return EncodedStage(
        **vars(plan.cells),
        feat=feat,
        pooling_inverse=None if plan.members is None else plan.members.inverse,
        curves=curves,
    )
