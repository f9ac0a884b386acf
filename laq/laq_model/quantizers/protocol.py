"""What every quantization scheme takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Usage:
    """How much of the codebook was used, over the last training steps.

    Attributes:
        used_fraction: share of codes with at least one hit, all token positions together.
        perplexity: exp of the entropy of the hits, all token positions together.
        position_perplexity: the same for each token position.
    """

    used_fraction: Float[Tensor, ""]
    perplexity: Float[Tensor, ""]
    position_perplexity: Float[Tensor, " tokens"]


@dataclass(frozen=True)
class Quantized:
    """Vectors after the bottleneck.

    Attributes:
        quantized: what the predictor reads; in eval mode the codes themselves.
        code_index: the nearest code of each vector, whatever ``quantized`` holds.
        is_hard: samples whose ``quantized`` has the values of the codes themselves.
        loss_terms: to be added to the training loss, already weighted; empty in eval mode.
        usage: of the training steps so far; evaluation does not count.
    """

    quantized: Float[Tensor, "batch tokens dim"]
    code_index: Int[Tensor, "batch tokens"]
    is_hard: Bool[Tensor, " batch"]
    loss_terms: dict[str, Float[Tensor, ""]]
    usage: Usage


@runtime_checkable
class Quantizer(Protocol):
    """A trained bottleneck between vectors and code numbers."""

    def __call__(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        generator: torch.Generator | None = None,
        hard_share: float = 0.0,
        progress: float = 0.0,
    ) -> Quantized:
        """Quantize.

        Args:
            generator: of all randomness; none is needed in eval mode.
            hard_share: share of samples whose ``quantized`` holds the codes themselves.
            progress: how much of the training is done, 0 to 1, for schedules that must end.
        """
        ...

    def nearest(self, x: Float[Tensor, "batch tokens dim"]) -> Int[Tensor, "batch tokens"]:
        """The codes of these vectors, without any change of state."""
        ...

    def lookup(self, code_index: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        """The vectors that these codes stand for."""
        ...
