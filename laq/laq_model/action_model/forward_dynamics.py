"""The forward dynamics model: the current frame and the action's codes → what changes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..transformer import ReadingBlock, rotation_angles
from .config import ConcertoLAQConfig
from .places import Places, gather_places
from .token_embedding import TokenEmbedding

HEAD_START = 0.1  # the head's first weights, as a share of the usual: training starts near "no change"


class ForwardDynamics(nn.Module):
    """How the standardised channels of the queried places change."""

    def __init__(self, config: ConcertoLAQConfig):
        super().__init__()
        self.head_dim = config.dim // config.num_heads
        self.embedding = TokenEmbedding(config.channels, config.dim)
        self.context_norm = nn.LayerNorm(config.dim)
        self.code = nn.Linear(config.quantizer_dim, config.dim)
        self.code_position = nn.Parameter(torch.randn(config.code_seq_len, config.dim) * 0.5)
        self.code_norm = nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList(
            ReadingBlock(config.dim, config.num_heads, config.mlp_ratio)
            for _ in range(config.predictor_depth)
        )
        self.head_norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.channels)
        with torch.no_grad():
            self.head.weight.mul_(HEAD_START)
            self.head.bias.zero_()

    def forward(
        self,
        places: Places,
        vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"],
        *,
        context_index: Int[Tensor, "pairs context"],
        is_context: Bool[Tensor, "pairs context"],
        query_index: Int[Tensor, "pairs queries"],
    ) -> Float[Tensor, "pairs queries channels"]:
        """Reads frame 0 only; each query is answered without regard to the others."""
        memory = self.context_norm(self._embed(places, context_index))
        codes = self.code_norm(self.code(vectors) + self.code_position)
        x = self._embed(places, query_index)
        angles = (self._angles(places, query_index), self._angles(places, context_index))
        for block in self.blocks:
            x = block(x, codes, memory, is_context, angles)
        return self.head(self.head_norm(x))

    def _embed(self, places: Places, index: Tensor) -> Tensor:
        return self.embedding(
            gather_places(places.current, index),
            places.is_occupied[:, 0].gather(1, index),
            gather_places(places.position, index),
        )

    def _angles(self, places: Places, index: Tensor) -> Tensor:
        return rotation_angles(gather_places(places.position, index), head_dim=self.head_dim)
