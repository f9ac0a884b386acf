"""Self-attention inside patches of serialized points; no position code but the convolution before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .patches import PatchGroup, PatchTable


class SerializedAttention(nn.Module):
    """Multi-head attention; one fused call for each patch shape, a point's output read back from its slot."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.scale = qk_scale or (channels // num_heads) ** -0.5
        self.attn_drop = attn_drop
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self, feat: Float[Tensor, "points channels"], patches: PatchTable
    ) -> Float[Tensor, "points channels"]:
        """Attend along one curve; ``patches`` are by row."""
        qkv = self.qkv(feat)
        slots = [self._attend(qkv, group) for group in patches.groups]
        joined = slots[0] if len(slots) == 1 else torch.cat(slots or [feat.new_zeros(0, feat.shape[1])])
        return self.proj_drop(self.proj(joined.index_select(0, patches.slot)))

    def _attend(
        self, qkv: Float[Tensor, "points three_channels"], group: PatchGroup
    ) -> Float[Tensor, "slots channels"]:
        channels = qkv.shape[1] // 3
        if group.key is group.query:
            query, key, value = self._heads(qkv, group.query, parts=3)
        else:
            (query,) = self._heads(qkv[:, :channels], group.query, parts=1)
            key, value = self._heads(qkv[:, channels:], group.key, parts=2)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=group.is_key,
            dropout_p=self.attn_drop if self.training else 0.0,
            scale=self.scale,
        )
        return attended.transpose(1, 2).reshape(-1, channels)

    def _heads(
        self, feat: Tensor, rows: Tensor, *, parts: int
    ) -> tuple[Float[Tensor, "patches heads length width"], ...]:
        """Gather rows; channels are nested as (part, head, width)."""
        gathered = feat.index_select(0, rows.flatten())
        split = gathered.view(*rows.shape, parts, self.num_heads, -1)
        return split.permute(2, 0, 3, 1, 4).unbind()
