"""Who uses which code: counts over a sliding window of training steps.

Hits are counted per code (not per batch) and summed over all processes. All state lives in buffers, so a
resumed run goes on with the same counts.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from .protocol import Usage

USAGE_WINDOW_STEPS = 64  # steps that "usage" looks back on


class UsageWindow(nn.Module):
    """Hits of each code at each token position in the last training steps."""

    num_updates: Tensor
    window_hits: Tensor

    def __init__(self, *, codebook_size: int, num_positions: int):
        super().__init__()
        self.codebook_size = codebook_size
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer(
            "window_hits", torch.zeros(USAGE_WINDOW_STEPS, num_positions, codebook_size, dtype=torch.int32)
        )

    @torch.no_grad()
    def count(self, code_index: Int[Tensor, "batch positions"]) -> Int[Tensor, "positions codebook_size"]:
        """Count one training step's hits, those of all processes, and give them."""
        hits = hits_per_position(code_index, codebook_size=self.codebook_size)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(hits)
        self.window_hits[self.num_updates % USAGE_WINDOW_STEPS] = hits.to(torch.int32)
        self.num_updates += 1
        return hits

    def usage(self) -> Usage:
        """Of the last ``USAGE_WINDOW_STEPS`` training steps."""
        by_position = self.window_hits.sum(0)
        together = by_position.sum(0)
        return Usage(
            used_fraction=(together > 0).float().mean(),
            perplexity=_perplexity(together),
            position_perplexity=_perplexity(by_position),
        )


def hits_per_position(
    code_index: Int[Tensor, "batch positions"], *, codebook_size: int
) -> Int[Tensor, "positions codebook_size"]:
    """How often each token position chose each code."""
    num_positions = code_index.shape[1]
    hits = torch.zeros(num_positions, codebook_size, dtype=torch.int64, device=code_index.device)
    return hits.scatter_add_(1, code_index.T, torch.ones_like(code_index.T))


def _perplexity(hits: Int[Tensor, "*positions codebook_size"]) -> Float[Tensor, "*positions"]:
    share = hits.float() / hits.sum(-1, keepdim=True).clamp(min=1)
    return torch.exp(-torch.xlogy(share, share).sum(-1))
