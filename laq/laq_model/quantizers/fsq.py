"""FSQ: Finite Scalar Quantization, by the package vector-quantize-pytorch (extra [vq]).

Mentzer et al., arXiv 2309.15505: a vector is projected to a few numbers, each is rounded to a few levels, and
the gradient passes straight through. There is no table to learn or to tend, so nothing can fall out of use
for lack of care. Departure: levels lie symmetrically about zero (Parker et al., arXiv 2411.19842, §3.2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ as PackageFSQ

from ..errors import ConfigError
from .protocol import Quantized
from .usage import UsageWindow

MOST_LEVELS = 8  # of one number; the paper's tables use 3 to 8


class FSQ(nn.Module):
    """A bottleneck of rounded numbers, shared by all token positions."""

    def __init__(self, *, codebook_size: int, dim: int, num_positions: int):
        super().__init__()
        levels = levels_of(codebook_size)
        self.rounding = PackageFSQ(levels=levels, dim=dim, preserve_symmetry=True)
        self.usage_window = UsageWindow(codebook_size=codebook_size, num_positions=num_positions)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        generator: torch.Generator | None = None,
        hard_share: float = 0.0,
        progress: float = 0.0,
    ) -> Quantized:
        """Every sample takes its hard code; nothing is drawn."""
        with torch.autocast(x.device.type, enabled=False):
            quantized, code_index = self.rounding(x.float())
        if self.training:
            self.usage_window.count(code_index.long())
        is_hard = torch.ones(len(x), dtype=torch.bool, device=x.device)
        return Quantized(quantized, code_index.long(), is_hard, {}, self.usage_window.usage())

    def nearest(self, x: Float[Tensor, "batch tokens dim"]) -> Int[Tensor, "batch tokens"]:
        """Number of the level combination that each vector is rounded to."""
        return self.rounding(x.float())[1].long()

    def lookup(self, code_index: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        """The vectors of these level combinations."""
        return self.rounding.indices_to_codes(code_index)


def levels_of(codebook_size: int) -> list[int]:
    """The fewest levels, at least two, whose product is the codebook's size, none above ``MOST_LEVELS``.

    Of equally many, the most even; largest first: 256 is 8 · 8 · 4, 240 is 8 · 6 · 5, 8 is 4 · 2.

    Raises:
        ConfigError: the size has a prime factor above ``MOST_LEVELS``, or is itself a prime.
    """
    for count in range(2, codebook_size.bit_length() + 1):
        found = _factorings(codebook_size, count, MOST_LEVELS)
        if found:
            return min(found, key=lambda levels: max(levels) - min(levels))
    raise ConfigError(
        f"quantizer 'fsq' needs a codebook_size that is a product of numbers from 2 to {MOST_LEVELS}, "
        f"such as 64, 240, 256 or 1000; got {codebook_size}"
    )


def _factorings(size: int, count: int, largest: int) -> list[list[int]]:
    """All ways to write ``size`` as ``count`` factors of 2 to ``largest``, in falling order."""
    if count == 1:
        return [[size]] if 2 <= size <= largest else []
    return [
        [first, *rest]
        for first in range(min(size, largest), 1, -1)
        if size % first == 0
        for rest in _factorings(size // first, count - 1, first)
    ]
