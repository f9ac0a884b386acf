"""Where VGGT keeps float32 while its matrix products run in a shorter type.

The residual stream, every norm, the normed queries and keys and their rotation stay in float32 (float64 in a
float64 network); linear layers, convolutions and attention compute in the type of their weights, or in
autocast's. With bfloat16 weights this gives half the error of a stream that is bfloat16 as well.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def stream_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of the residual stream: ``dtype``, but never shorter than float32."""
    return torch.promote_types(dtype, torch.float32)


class LayerNorm(nn.LayerNorm):
    """Layer norm that computes and answers in the stream's type, whatever the type of its weights."""

    def forward(self, input: Float[Tensor, "... channels"]) -> Float[Tensor, "... channels"]:
        """Normalise over the channels."""
        dtype = stream_dtype(input.dtype)
        weight = self.weight.to(dtype) if self.elementwise_affine else None
        bias = self.bias.to(dtype) if self.elementwise_affine else None
        return F.layer_norm(input.to(dtype), self.normalized_shape, weight, bias, self.eps)
