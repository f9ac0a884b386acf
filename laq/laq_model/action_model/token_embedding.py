"""A place of one frame → a vector; the inverse and the forward dynamics model each have their own."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..transformer import POSITION_CHANNELS, position_code


class TokenEmbedding(nn.Module):
    """What is there, whether anything is there, and where it is."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.content = nn.Linear(channels, dim)
        self.state = nn.Embedding(2, dim)
        self.position = nn.Linear(POSITION_CHANNELS, dim, bias=False)

    def forward(
        self,
        feat: Float[Tensor, "*batch channels"],
        is_occupied: Bool[Tensor, "*batch"],
        position: Float[Tensor, "*#batch 3"],
    ) -> Float[Tensor, "*batch dim"]:
        """Sum of the three."""
        return self.content(feat) + self.state(is_occupied.long()) + self.position(position_code(position))
