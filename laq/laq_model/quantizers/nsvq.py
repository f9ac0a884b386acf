"""NSVQ: Noise Substitution in Vector Quantization.

Vali & Bäckström, "NSVQ: Noise Substitution in Vector Quantization for Machine Learning", IEEE Access 10
(2022), eq. 5: in training the quantization error x − c is replaced by noise of the same length,

    x + ‖x − c‖ · v / ‖v‖,   v ~ N(0, I),

which is differentiable in x and in the chosen code c. In evaluation the code itself is used.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..batch_rows import normal_rows, uniform_rows
from .codebook import Codebook, nearest_code
from .protocol import Quantized

# Progress from which every sample takes the hard code.
HARD_FROM = 0.5


class NSVQ(nn.Module):
    """A bottleneck of one shared codebook."""

    def __init__(
        self,
        *,
        codebook_size: int,
        dim: int,
        num_positions: int,
        codebook_weight: float = 1.0,
        commitment_weight: float = 0.25,
        learning_rate_gain: float = 10.0,
    ):
        super().__init__()
        self.codebook_weight = codebook_weight
        self.commitment_weight = commitment_weight
        self.codebook = Codebook(
            codebook_size=codebook_size,
            dim=dim,
            num_positions=num_positions,
            learning_rate_gain=learning_rate_gain,
        )

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        generator: torch.Generator | None = None,
        hard_share: float = 0.0,
        progress: float = 0.0,
    ) -> Quantized:
        """Quantize; in training mode count hits and tend the codebook as well."""
        with torch.autocast(x.device.type, enabled=False):
            return self._quantize(x.float(), generator=generator, hard_share=hard_share, progress=progress)

    def _quantize(
        self, x: Tensor, *, generator: torch.Generator | None, hard_share: float, progress: float
    ) -> Quantized:
        if not self.training:
            code_index = nearest_code(x, self.codebook.codes)
            is_hard = torch.ones(len(x), dtype=torch.bool, device=x.device)
            return Quantized(
                self.lookup(code_index), code_index, is_hard, {}, self.codebook.usage_window.usage()
            )
        rows = x.detach().flatten(0, 1)
        self.codebook.start(rows, generator)
        codes = self.codebook.codes
        code_index = nearest_code(x.detach(), codes.detach())
        chosen = codes[code_index]
        squared_error = (x - chosen).square()
        uniform = uniform_rows((len(x),), generator=generator, device=x.device)
        is_hard = uniform < hard_share
        soft = substitute_noise(x, chosen, generator=generator)
        hard = x + (chosen - x).detach()
        loss_terms = {
            "codebook_loss": self.codebook_weight * (x.detach() - chosen).square().mean(),
            "commitment_loss": self.commitment_weight * (x - chosen.detach()).square().mean(),
        }
        quantized = torch.where(is_hard[:, None, None], hard, soft)
        self.codebook.count(code_index)
        self.codebook.replace_unused(
            rows, squared_error.detach().sum(-1).flatten(), generator=generator, progress=progress
        )
        return Quantized(quantized, code_index, is_hard, loss_terms, self.codebook.usage_window.usage())

    def nearest(self, x: Float[Tensor, "batch tokens dim"]) -> Int[Tensor, "batch tokens"]:
        """Number of the nearest code of each vector."""
        return nearest_code(x.float(), self.codebook.codes)

    def lookup(self, code_index: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        """Rows of the codebook."""
        return self.codebook.codes[code_index]


def substitute_noise(
    x: Float[Tensor, "*batch dim"], code: Float[Tensor, "*batch dim"], *, generator: torch.Generator | None
) -> Float[Tensor, "*batch dim"]:
    """Move x by the length of its quantization error, in a random direction (eq. 5).

    Gradients reach x, and through the length also the code.
    """
    noise = normal_rows(tuple(x.shape), generator=generator, device=x.device, dtype=x.dtype)
    direction = noise / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    # The small constant keeps the gradient of the length finite where x is its own code.
    length = ((x - code).square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return x + length * direction


def hard_share_at(progress: float, *, hard_from: float = HARD_FROM) -> float:
    """Share of samples that take the hard code: it grows from 0 to 1 while progress goes to ``hard_from``."""
    return min(1.0, progress / hard_from) if hard_from else 1.0
