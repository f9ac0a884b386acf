"""The block that every stage repeats: convolution as position code, attention, MLP."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attention import SerializedAttention
from .config import PTv3Config
from .patches import PatchTable
from .sparse_conv import NeighbourPairs, SubMConv3d


class ConditionalPositionEncoding(nn.ModuleList):
    """LayerNorm(Linear(convolution)), without activation; children 0, 1, 2 in the order of use."""

    def __init__(self, channels: int):
        super().__init__(
            [SubMConv3d(channels, channels), nn.Linear(channels, channels), nn.LayerNorm(channels)]
        )

    def forward(
        self, feat: Float[Tensor, "points channels"], pairs: NeighbourPairs
    ) -> Float[Tensor, "points channels"]:
        """What the block adds to its input before attention."""
        conv, linear, norm = self
        return norm(linear(conv(feat, pairs)))


class LayerScale(nn.Module):
    """A learned factor for each channel (Touvron et al., "Going deeper with Image Transformers", 2021)."""

    def __init__(self, channels: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), float(start)))

    def forward(self, feat: Float[Tensor, "points channels"]) -> Float[Tensor, "points channels"]:
        """Scale each channel."""
        return feat * self.gamma


class DropPath(nn.Module):
    """In training, drop the branch of whole points and enlarge the others' to keep the mean."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "points channels"]) -> Float[Tensor, "points channels"]:
        """The branch, thinned in training."""
        if not self.training or self.rate == 0:
            return branch
        keep = torch.rand(len(branch), 1, device=branch.device) >= self.rate
        return branch * (keep / (1 - self.rate)).to(branch.dtype)


class MLP(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, channels: int, hidden: int, *, drop: float = 0.0):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop)

    def forward(self, feat: Float[Tensor, "points channels"]) -> Float[Tensor, "points channels"]:
        """Each point alone."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(feat)))))


class Block(nn.Module):
    """One block; names of children are those of the published weights."""

    def __init__(self, config: PTv3Config, *, stage: int, drop_path: float):
        super().__init__()
        channels = config.enc_channels[stage]
        self.cpe = ConditionalPositionEncoding(channels)
        self.norm1 = nn.Sequential(nn.LayerNorm(channels))
        self.ls1 = _layer_scale(channels, config.layer_scale)
        self.attn = SerializedAttention(
            channels,
            config.enc_num_head[stage],
            qkv_bias=config.qkv_bias,
            qk_scale=config.qk_scale,
            attn_drop=config.attn_drop,
            proj_drop=config.proj_drop,
        )
        self.norm2 = nn.Sequential(nn.LayerNorm(channels))
        self.ls2 = _layer_scale(channels, config.layer_scale)
        self.mlp = nn.Sequential(MLP(channels, int(channels * config.mlp_ratio), drop=config.proj_drop))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, feat: Float[Tensor, "points channels"], pairs: NeighbourPairs, patches: PatchTable
    ) -> Float[Tensor, "points channels"]:
        """Features after the block; ``patches`` are by row, along this block's curve."""
        feat = feat + self.cpe(feat, pairs)
        feat = feat + self.drop_path(self.ls1(self.attn(self.norm1(feat), patches)))
        return feat + self.drop_path(self.ls2(self.mlp(self.norm2(feat))))


def _layer_scale(channels: int, start: float | None) -> nn.Sequential:
    return nn.Sequential() if start is None else nn.Sequential(LayerScale(channels, start))
