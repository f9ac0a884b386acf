"""The rows of a training step's batch: how they are shared over processes must not change what is learned.

Random numbers of a row are drawn as if the whole batch were here, and decisions about the codebook look at
the rows of all processes. So two processes with half a batch each learn what one learns from the whole.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class StepGenerator(torch.Generator):
    """Random numbers of one step, where this process (or this turn of it) has some rows of the batch only.

    Attributes:
        first_row: place of the first of these rows in the step's batch.
        batch_size: rows of the whole batch.
    """

    first_row: int
    batch_size: int


def step_generator(
    seed: int, *, first_row: int, batch_size: int, device: torch.device | str = "cpu"
) -> StepGenerator:
    """A generator for some rows of a batch; all shares of one step are given the same seed."""
    generator = StepGenerator(device=device)
    generator.manual_seed(seed)
    generator.first_row, generator.batch_size = first_row, batch_size
    return generator


def uniform_rows(
    shape: tuple[int, ...], *, generator: torch.Generator | None, device: torch.device
) -> Float[Tensor, "rows ..."]:
    """Even random numbers in [0, 1), each row's own whatever other rows are here."""
    return _rows(torch.rand, shape, generator, device=device)


def normal_rows(
    shape: tuple[int, ...], *, generator: torch.Generator | None, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "rows ..."]:
    """Normal random numbers, each row's own whatever other rows are here."""
    return _rows(torch.randn, shape, generator, device=device, dtype=dtype)


def rows_of_all_processes(rows: Float[Tensor, "rows ..."]) -> Float[Tensor, "all_rows ..."]:
    """The rows of all processes, in the order of the batch; every process must have as many."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.contiguous())
    return torch.cat(gathered)


def _rows(
    draw: Callable[..., Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    **options: torch.device | torch.dtype,
) -> Tensor:
    if not isinstance(generator, StepGenerator):
        return draw(shape, generator=generator, **options)
    whole = draw((generator.batch_size, *shape[1:]), generator=generator, **options)
    return whole[generator.first_row : generator.first_row + shape[0]]
