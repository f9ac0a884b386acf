"""The transformer block of all four uses: patch embedding, frame, global and camera attention.

x ← x + γ₁ · Attention(LN₁(x)); x ← x + γ₂ · MLP(LN₂(x)), with LayerScale vectors γ (Touvron et al. 2021),
exact GELU and biases everywhere. Frame and global blocks norm queries and keys over the head's channels and
then rotate them. Source: Oquab et al., DINOv2 (2023); Wang et al., VGGT (2025), §3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .precision import LayerNorm, stream_dtype
from .rope import RotationTable, rotate


class Attention(nn.Module):
    """Attention of every token of a sequence to every other; one matrix makes queries, keys and values."""

    def __init__(self, channels: int, num_heads: int, *, norm_eps: float, norms_query_and_key: bool):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.q_norm: nn.Module = nn.Identity()
        self.k_norm: nn.Module = nn.Identity()
        if norms_query_and_key:
            self.q_norm = LayerNorm(channels // num_heads, eps=norm_eps)
            self.k_norm = LayerNorm(channels // num_heads, eps=norm_eps)
        self.proj = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], rotation: RotationTable | None
    ) -> Float[Tensor, "batch tokens channels"]:
        """Answer in the type of the weights (or autocast's)."""
        qkv = self.qkv(x.to(self.qkv.weight.dtype)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.unbind(dim=2)
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        attended = F.scaled_dot_product_attention(
            query.to(value.dtype).transpose(1, 2), key.to(value.dtype).transpose(1, 2), value.transpose(1, 2)
        )
        return self.proj(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, channels: int, hidden_channels: int, out_channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.fc2 = nn.Linear(hidden_channels, out_channels)

    def forward(self, x: Float[Tensor, "... channels"]) -> Float[Tensor, "... out_channels"]:
        """Answer in the type of the weights (or autocast's)."""
        return self.fc2(F.gelu(self.fc1(x.to(self.fc1.weight.dtype))))


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch, and the addition to the stream."""

    def __init__(self, channels: int, start: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), start))

    def forward(
        self, stream: Float[Tensor, "*batch channels"], branch: Float[Tensor, "*batch channels"]
    ) -> Float[Tensor, "*batch channels"]:
        """The stream plus the scaled branch, in the stream's type."""
        return torch.addcmul(stream, self.gamma.to(stream.dtype), branch.to(stream.dtype))


class Block(nn.Module):
    """Attention and MLP, each on the normed stream, scaled and added to it."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        mlp_ratio: float | int,
        norm_eps: float,
        start_scale: float,
        norms_query_and_key: bool = False,
    ):
        super().__init__()
        self.norm1 = LayerNorm(channels, eps=norm_eps)
        self.attn = Attention(channels, num_heads, norm_eps=norm_eps, norms_query_and_key=norms_query_and_key)
        self.ls1 = LayerScale(channels, start_scale)
        self.norm2 = LayerNorm(channels, eps=norm_eps)
        self.mlp = MLP(channels, int(channels * mlp_ratio), channels)
        self.ls2 = LayerScale(channels, start_scale)

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], rotation: RotationTable | None = None
    ) -> Float[Tensor, "batch tokens channels"]:
        """One step of the stream, which is float32 or longer from here on."""
        x = x.to(stream_dtype(x.dtype))
        x = self.ls1(x, self.attn(self.norm1(x), rotation))
        return self.ls2(x, self.mlp(self.norm2(x)))
