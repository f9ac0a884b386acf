"""The plain blocks that the action model is built of: pre-norm attention and MLP, with padding masked out.

Vaswani et al. 2017, with the norm before each part (Xiong et al. 2020). No dropout: the frozen features are
the same in every epoch, and what the model may know is limited by the codes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

NUM_POSITION_FREQUENCIES = 6  # wavelengths from 2 boxes down to a sixteenth of one
ROTARY_WAVELENGTHS = (8.0, 0.4)  # in units of the [-1, 1] box: four boxes, and about four cells


class Attention(nn.Module):
    """Multi-head attention of x over a memory."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        memory: Float[Tensor, "batch keys dim"],
        is_valid: Bool[Tensor, "batch keys"] | None = None,
        *,
        angles: tuple[Float[Tensor, "batch queries pairs"], Float[Tensor, "batch keys pairs"]] | None = None,
    ) -> Float[Tensor, "batch queries dim"]:
        """Read ``memory`` where ``is_valid``; a row without a single valid key reads zeros.

        With ``angles`` (of x and of the memory, see ``rotation_angles``) a head can ask for "what is there,
        that far from me", wherever it is.
        """
        query = rearrange(self.query(x), "b q (h d) -> b h q d", h=self.num_heads)
        key, value = rearrange(
            self.key_value(memory), "b k (two h d) -> two b h k d", two=2, h=self.num_heads
        )
        if angles is not None:
            query, key = rotate(query, angles[0]), rotate(key, angles[1])
        if is_valid is None:
            return self.out(_merge_heads(F.scaled_dot_product_attention(query, key, value)))
        has_key = is_valid.any(-1, keepdim=True)
        mask = is_valid | ~has_key  # a softmax over nothing would be NaN, here or in the gradient
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        return self.out(_merge_heads(read)) * has_key[..., None]


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.inner = nn.Linear(dim, hidden_dim)
        self.outer = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Each token by itself."""
        return self.outer(F.gelu(self.inner(x)))


class SelfAttentionBlock(nn.Module):
    """Tokens look at each other, then each thinks by itself."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio * dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        is_valid: Bool[Tensor, "batch tokens"],
        angles: Float[Tensor, "batch tokens pairs"],
        *,
        num_asking: int | None = None,
    ) -> Float[Tensor, "batch asking dim"]:
        """Only valid tokens are looked at; the rows of the others hold nothing of use.

        Args:
            num_asking: only so many tokens, the first, are wanted of the result; all look at all.
        """
        normed, asking = self.attention_norm(x), slice(num_asking)
        x = x[:, asking] + self.attention(
            normed[:, asking], normed, is_valid, angles=(angles[:, asking], angles)
        )
        return x + self.mlp(self.mlp_norm(x))


class ReadingBlock(nn.Module):
    """Queries read the codes, then the context; they never look at one another."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int):
        super().__init__()
        self.code_norm = nn.LayerNorm(dim)
        self.code_attention = Attention(dim, num_heads)
        self.context_norm = nn.LayerNorm(dim)
        self.context_attention = Attention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio * dim)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        codes: Float[Tensor, "batch codes dim"],
        context: Float[Tensor, "batch context dim"],
        is_valid: Bool[Tensor, "batch context"],
        angles: tuple[Float[Tensor, "batch queries pairs"], Float[Tensor, "batch context pairs"]],
    ) -> Float[Tensor, "batch queries dim"]:
        """``codes`` and ``context`` come normalised; ``is_valid`` is of the context, ``angles`` of both."""
        x = x + self.code_attention(self.code_norm(x), codes)
        x = x + self.context_attention(self.context_norm(x), context, is_valid, angles=angles)
        return x + self.mlp(self.mlp_norm(x))


def rotation_angles(
    position: Float[Tensor, "batch tokens 3"], *, head_dim: int
) -> Float[Tensor, "batch tokens pairs"]:
    """Angles by which ``rotate`` turns a head's channel pairs, a third of them for each axis.

    Rotary positions (Su et al. 2021) in 3D: what two rotated vectors have in common depends on the offset of
    their places alone. Wavelengths are a geometric series over ``ROTARY_WAVELENGTHS``; pairs of channels that
    are left over stay as they are.
    """
    num_frequencies = head_dim // 6
    longest, shortest = ROTARY_WAVELENGTHS
    exponent = torch.linspace(0, 1, max(num_frequencies, 1), device=position.device)[:num_frequencies]
    frequency = 2 * math.pi / longest * (longest / shortest) ** exponent
    angles = (position[..., None] * frequency).flatten(-2)
    return F.pad(angles, (0, head_dim // 2 - angles.shape[-1]))


def rotate(
    x: Float[Tensor, "batch heads tokens dim"], angles: Float[Tensor, "batch tokens pairs"]
) -> Float[Tensor, "batch heads tokens dim"]:
    """Turn each pair of channels (i, i + dim / 2) by its angle."""
    return _Rotation.apply(x, angles.cos()[:, None].to(x.dtype), angles.sin()[:, None].to(x.dtype))


class _Rotation(torch.autograd.Function):
    """Half the passes over memory that plain operators take: the gradient of a turn is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = torch.empty_like(x)
    (first, second), (turned_first, turned_second) = x.chunk(2, dim=-1), turned.chunk(2, dim=-1)
    torch.mul(first, cos, out=turned_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned_second).addcmul_(first, sin)
    return turned


def position_code(position: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch channels"]:
    """Place in the [-1, 1] box, with its sines and cosines at octaves (Mildenhall et al. 2020, eq. 4)."""
    octaves = math.pi * 2.0 ** torch.arange(NUM_POSITION_FREQUENCIES, device=position.device)
    phase = (position[..., None] * octaves).flatten(-2)
    return torch.cat([position, phase.sin(), phase.cos()], dim=-1)


POSITION_CHANNELS = 3 + 6 * NUM_POSITION_FREQUENCIES


def _merge_heads(read: Tensor) -> Tensor:
    return rearrange(read, "b h q d -> b q (h d)")
