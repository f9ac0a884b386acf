"""A table of codes and its care: where codes start, and what becomes of the unused.

Whatever changes the table is drawn from the vectors of all processes, decided by the first and sent to the
others, so every process holds the same codebook always. All state lives in buffers, so a resumed run goes on
with the same bits.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..batch_rows import rows_of_all_processes
from .usage import UsageWindow

REPLACEMENT_PERIOD_STEPS = 32  # a code is unused when it had no hit for this long
REPLACEMENT_END = 0.75  # share of the training after which codes stay where they are
NOISE_SHARE = 0.05  # noise beside a data row, as a share of the data's own spread


class Codebook(nn.Module):
    """The table, shared by all token positions, and its counters.

    Args:
        learning_rate_gain: the stored parameter is the table divided by this, so an optimiser such as Adam,
            whose steps have a fixed length, moves the codes that many times faster than the other weights.
    """

    is_started: Tensor
    period_hits: Tensor

    def __init__(self, *, codebook_size: int, dim: int, num_positions: int, learning_rate_gain: float):
        super().__init__()
        self.learning_rate_gain = learning_rate_gain
        self.weight = nn.Parameter(torch.randn(codebook_size, dim) / learning_rate_gain)
        self.register_buffer("is_started", torch.zeros((), dtype=torch.bool))
        self.usage_window = UsageWindow(codebook_size=codebook_size, num_positions=num_positions)
        self.register_buffer("period_hits", torch.zeros(codebook_size, dtype=torch.int64))

    @property
    def codes(self) -> Float[Tensor, "codebook_size dim"]:
        """The table, differentiable."""
        return self.weight * self.learning_rate_gain

    @torch.no_grad()
    def start(self, x: Float[Tensor, "rows dim"], generator: torch.Generator | None) -> None:
        """Once, before the first use: every code becomes an encoder output plus visible noise."""
        if bool(self.is_started):
            return
        x = rows_of_all_processes(x)
        rows = rows_of_data(x, len(self.weight), weight=torch.ones_like(x[:, 0]), generator=generator)
        self.weight.copy_(_from_first_process(rows) / self.learning_rate_gain)
        self.is_started.fill_(True)

    @torch.no_grad()
    def count(self, code_index: Int[Tensor, "batch positions"]) -> None:
        """Count one training step's hits, those of all processes."""
        self.period_hits += self.usage_window.count(code_index).sum(0)

    @torch.no_grad()
    def replace_unused(
        self,
        x: Float[Tensor, "rows dim"],
        squared_error: Float[Tensor, " rows"],
        *,
        generator: torch.Generator | None,
        progress: float,
    ) -> None:
        """At the end of a period, move unused codes to encoder outputs that have no code near them."""
        if int(self.usage_window.num_updates) % REPLACEMENT_PERIOD_STEPS:
            return
        is_unused = self.period_hits == 0
        self.period_hits.zero_()
        if progress >= REPLACEMENT_END:
            return
        x, squared_error = rows_of_all_processes(x), rows_of_all_processes(squared_error)
        candidates = rows_of_data(x, len(self.weight), weight=squared_error, generator=generator)
        candidates = _from_first_process(candidates) / self.learning_rate_gain
        number_among_unused = (is_unused.cumsum(0) - 1).clamp(min=0)
        self.weight.copy_(torch.where(is_unused[:, None], candidates[number_among_unused], self.weight))


def nearest_code(
    x: Float[Tensor, "batch tokens dim"], codes: Float[Tensor, "codebook_size dim"]
) -> Int[Tensor, "batch tokens"]:
    """Number of the code with the smallest Euclidean distance; of equals, the lowest."""
    squared_distance = codes.square().sum(-1) - 2 * x @ codes.T  # |x|² is the same for every code
    return squared_distance.argmin(-1)


def rows_of_data(
    x: Float[Tensor, "rows dim"],
    num_rows: int,
    *,
    weight: Float[Tensor, " rows"],
    generator: torch.Generator | None,
) -> Float[Tensor, "num_rows dim"]:
    """Draw rows, each at most once while they last, in proportion to ``weight``, plus visible noise.

    The noise has ``NOISE_SHARE`` of the data's standard deviation in each dimension, so that two codes made
    from one row are not the same code.
    """
    uniform = torch.rand(weight.shape, generator=generator, device=x.device, dtype=torch.float32)
    # The largest of log(weight) + Gumbel noise are a weighted draw without replacement (Efraimidis &
    # Spirakis 2006).
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-9, 1 - 1e-7)))
    order = torch.argsort(torch.log(weight.float() + 1e-12) + gumbel, descending=True)
    picked = order[torch.arange(num_rows, device=x.device) % len(order)]
    noise = torch.randn((num_rows, x.shape[1]), generator=generator, device=x.device, dtype=x.dtype)
    spread = x.std(dim=0, correction=0) if len(x) > 1 else x.abs().mean().expand(x.shape[1])
    return x[picked] + NOISE_SHARE * spread.clamp(min=1e-3) * noise


def _from_first_process(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    if dist.is_available() and dist.is_initialized():
        rows = rows.contiguous()
        dist.broadcast(rows, src=0)
    return rows
