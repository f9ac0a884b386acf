"""EMA-VQ: codes are moving averages of the vectors that chose them, by vector-quantize-pytorch (extra [vq]).

van den Oord et al., arXiv 1711.00937, appendix A.1, with a k-means start, restart of unused codes, and the
rotation trick (Fifty et al., arXiv 2410.06424, §4) for the gradient. Around the package:

- It learns from at least ``ROWS_PER_CODE`` vectors a code at a time, collected over as many steps as that
  takes. From fewer, k-means makes duplicate codes, and most codes would count as unused and be thrown about.
  Until the first time, vectors pass unquantized.
- All processes learn from the vectors of all; what the first process makes of them is sent to the others.
- The package draws from the global generator; here that is seeded from the caller's and put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from ..batch_rows import rows_of_all_processes
from .codebook import nearest_code
from .protocol import Quantized
from .usage import UsageWindow

ROWS_PER_CODE = 4
DECAY = 0.8  # of the averages, each time that codes are learned
UNUSED_BELOW = 0.5  # hits each time, averaged likewise; an evenly used code has ROWS_PER_CODE or more
LEARNING_END = 0.9  # share of the training after which codes stay where they are


class EMAVQ(nn.Module):
    """A bottleneck of one shared codebook that no optimiser moves."""

    is_started: Tensor
    collected: Tensor
    num_collected: Tensor

    def __init__(self, *, codebook_size: int, dim: int, num_positions: int, commitment_weight: float = 1.0):
        super().__init__()
        self.averages = VectorQuantize(
            dim=dim,
            codebook_size=codebook_size,
            decay=DECAY,
            kmeans_init=True,
            threshold_ema_dead_code=UNUSED_BELOW,
            rotation_trick=True,
            commitment_weight=commitment_weight,
            sync_codebook=False,
        )
        self.usage_window = UsageWindow(codebook_size=codebook_size, num_positions=num_positions)
        self.register_buffer("is_started", torch.zeros((), dtype=torch.bool))
        self.register_buffer("collected", torch.zeros(ROWS_PER_CODE * codebook_size, dim))
        self.register_buffer("num_collected", torch.zeros((), dtype=torch.int64))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        generator: torch.Generator | None = None,
        hard_share: float = 0.0,
        progress: float = 0.0,
    ) -> Quantized:
        """Every sample takes its hard code; in training mode the codes learn as well."""
        with torch.autocast(x.device.type, enabled=False):
            return self._quantize(x.float(), generator=generator, progress=progress)

    def _quantize(self, x: Tensor, *, generator: torch.Generator | None, progress: float) -> Quantized:
        is_hard = torch.ones(len(x), dtype=torch.bool, device=x.device)
        if not self.training:
            code_index = self.nearest(x)
            return Quantized(self.lookup(code_index), code_index, is_hard, {}, self.usage_window.usage())
        if progress < LEARNING_END or not bool(self.is_started):
            self._learn(x.detach().flatten(0, 1), generator)
        if not bool(self.is_started):
            return Quantized(x, self.nearest(x), ~is_hard, {}, self.usage_window.usage())
        quantized, code_index, commitment = self.averages(x, freeze_codebook=True)
        self.usage_window.count(code_index)
        terms = {"commitment_loss": commitment}
        return Quantized(quantized, code_index, is_hard, terms, self.usage_window.usage())

    def nearest(self, x: Float[Tensor, "batch tokens dim"]) -> Int[Tensor, "batch tokens"]:
        """Number of the nearest code of each vector."""
        return nearest_code(x.float(), self.averages.codebook)

    def lookup(self, code_index: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens dim"]:
        """Rows of the codebook."""
        return self.averages.codebook[code_index]

    @torch.no_grad()
    def _learn(self, rows: Float[Tensor, "rows dim"], generator: torch.Generator | None) -> None:
        """Collect vectors; once they are enough, move the codes (the first time, make them)."""
        rows = rows_of_all_processes(rows)
        num_before = int(self.num_collected)
        num_now = num_before + len(rows)
        if num_now < len(self.collected):
            self.collected[num_before:num_now] = rows
            self.num_collected.fill_(num_now)
            return
        with _global_generator_seeded_by(generator, rows.device):
            self.averages(torch.cat([self.collected[:num_before], rows])[None])
        self.num_collected.zero_()
        self.is_started.fill_(True)
        if dist.is_available() and dist.is_initialized():
            for buffer in self.averages.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def _global_generator_seeded_by(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator, device=generator.device)))
        yield
