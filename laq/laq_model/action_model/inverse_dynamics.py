"""The inverse dynamics model: both frames, at the places that changed most, → the action's vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..transformer import POSITION_CHANNELS, SelfAttentionBlock, position_code, rotation_angles
from .config import ConcertoLAQConfig
from .motion import MOTION_CHANNELS
from .places import Places, gather_places, take_largest
from .token_embedding import TokenEmbedding


class InverseDynamics(nn.Module):
    """One vector for each action token, not yet quantized."""

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.num_changed_tokens = config.num_changed_tokens
        self.head_dim = config.dim // config.num_heads
        self.embedding = TokenEmbedding(config.channels, config.dim)
        block = (config.dim, config.num_heads, config.mlp_ratio)
        self.scene_token = nn.Parameter(torch.randn(config.dim))  # a key that is there when no place is
        self.spatial = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.spatial_depth))
        self.spatial_norm = nn.LayerNorm(config.dim, bias=False)  # a bias would cancel in the difference
        self.position = nn.Linear(POSITION_CHANNELS, config.dim)
        # Where mass appeared, minus where it vanished: a mean over places is then already a shift.
        self.moved_position = nn.Linear(1 + POSITION_CHANNELS, config.dim, bias=False)
        self.motion = nn.Linear(MOTION_CHANNELS, config.code_seq_len * config.dim, bias=False)
        self.queries = nn.Parameter(torch.randn(config.code_seq_len, config.dim))
        self.temporal = nn.ModuleList(SelfAttentionBlock(*block) for _ in range(config.temporal_depth))
        self.head = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, config.quantizer_dim))

    def forward(self, places: Places) -> Float[Tensor, "pairs code_seq_len quantizer_dim"]:
        """Places that only one frame sees have no influence; nor has any when nothing moved.

        So all pairs that stand still get the same vectors, whatever the camera and the light do meanwhile.
        """
        index, is_chosen = take_largest(places.change_size, places.is_seen, self.num_changed_tokens)
        position = gather_places(places.position, index)
        angles = rotation_angles(position, head_dim=self.head_dim)
        frames = self._read_frames(places, index, is_chosen, angles)
        place = position_code(position)
        moved = places.moved.gather(1, index)[..., None]
        change = frames[:, 1] - frames[:, 0] + self.position(place)
        change = change + self.moved_position(torch.cat([moved, moved * place], dim=-1))
        is_changed = is_chosen & (places.change_size.gather(1, index) > 0) & ~places.is_still[:, None]
        num_queries = len(self.queries)
        queries = self.queries + self.motion(places.motion).unflatten(1, self.queries.shape)
        x = torch.cat([queries, change], dim=1)
        is_valid = torch.cat([is_changed.new_ones(len(change), num_queries), is_changed], dim=1)
        angles = F.pad(angles, (0, 0, num_queries, 0))
        *blocks, last = self.temporal
        for block in blocks:
            x = block(x, is_valid, angles)
        return self.head(last(x, is_valid, angles, num_asking=num_queries))

    def _read_frames(
        self, places: Places, index: Tensor, is_chosen: Tensor, angles: Tensor
    ) -> Float[Tensor, "pairs 2 chosen dim"]:
        """Each frame by itself, both in one call."""
        both = index[:, None].expand(-1, 2, -1)
        x = self.embedding(
            places.feat.gather(2, both[..., None].expand(-1, -1, -1, places.feat.shape[-1])),
            places.is_occupied.gather(2, both),
            gather_places(places.position, index)[:, None],
        )
        x = torch.cat([x, self.scene_token.expand(*x.shape[:2], 1, -1)], dim=2).flatten(0, 1)
        is_valid = F.pad(is_chosen, (0, 1), value=True).repeat_interleave(2, dim=0)
        angles = F.pad(angles, (0, 0, 0, 1)).repeat_interleave(2, dim=0)
        for block in self.spatial:
            x = block(x, is_valid, angles)
        return self.spatial_norm(x[:, :-1]).unflatten(0, (-1, 2))
