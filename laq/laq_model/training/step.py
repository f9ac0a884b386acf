"""One update of the weights, from this process's rows of the batch, in one or more turns.

A step is the mean over all its pairs, whatever processes and turns they are shared over: every turn counts by
its pairs, a pair that sees no place twice counts as one without error, and random numbers belong to a pair's
place in the batch. So turns change the memory that a step takes, not what it learns, up to rounding. (The
codebook counts its steps by turns, and starts from the first turn's pairs.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ..action_model.motion import seen_by_both
from ..batch_rows import step_generator
from ..concerto_laq import LAQOutput
from ..errors import RunError
from ..quantizers.nsvq import hard_share_at
from ..structures import PairTokens
from .config import OptimizationConfig
from .optimizer import learning_rate_at


@dataclass(frozen=True)
class Rows:
    """Which rows of a step's batch a turn takes."""

    first: int
    count: int


def rows_of_process(rank: int, config: OptimizationConfig) -> list[Rows]:
    """The turns of a process, in order."""
    first, end = rank * config.batch_size, (rank + 1) * config.batch_size
    size = config.micro_batch_size or config.batch_size
    return [Rows(start, min(size, end - start)) for start in range(first, end, size)]


def take_step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    turns: Sequence[tuple[Rows, PairTokens]],
    accelerator: Accelerator,
    config: OptimizationConfig,
    *,
    step: int,
    shuffle_pairs: bool = False,
    is_asked_to_stop: bool = False,
    is_reported: bool = True,
) -> tuple[dict[str, float], bool]:
    """Update the weights; gives what is worth a curve, over all processes, and whether any was asked to stop.

    Args:
        is_reported: as of the model's ``forward``.

    Raises:
        RunError: the loss or the gradient is not finite; the weights are left as they were.
    """
    learning_rate = learning_rate_at(step, config)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    model.train()
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, torch.Tensor] = {}
    with accelerator.autocast():  # around all turns, so that each weight is cast once
        for turn, (rows, pairs) in enumerate(turns):
            generator = step_generator(
                config.seed * 1_000_003 + step,
                first_row=rows.first,
                batch_size=config.batch_size * accelerator.num_processes,
                device=accelerator.device,
            )
            is_last = turn == len(turns) - 1
            with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
                try:
                    out = model(
                        pairs,
                        generator=generator,
                        progress=step / config.num_steps,
                        hard_share=hard_share_at(step / config.num_steps, hard_from=config.hard_codes_from),
                        shuffle_pairs=shuffle_pairs,
                        is_reported=is_reported,
                    )
                except ValueError as error:  # tokens that are not finite
                    raise RunError(f"step {step + 1} cannot be taken: {error}") from error
                share = rows.count / config.batch_size
                with torch.autocast(accelerator.device.type, enabled=False):
                    accelerator.backward(share * objective(out, pairs))
            for name, value in out.scalars().items():
                sums[name] = sums.get(name, 0) + share * value.detach().float()
    norm = accelerator.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
    reported = torch.stack([*sums.values(), norm.float(), norm.new_tensor(is_asked_to_stop).float()])
    *values, norm_value, asked = accelerator.reduce(reported, "mean").tolist()
    losses = dict(zip(sums, values, strict=True))
    if not torch.isfinite(torch.tensor([losses["loss"], norm_value])).all():
        raise RunError(
            f"the loss or its gradient is not finite at step {step + 1}; the last checkpoint is kept. "
            "Lower --learning_rate, or look for damaged frames among the training videos"
        )
    optimizer.step()
    return {**losses, "gradient_norm": norm_value, "learning_rate": learning_rate}, asked > 0


def objective(out: LAQOutput, pairs: PairTokens) -> torch.Tensor:
    """The loss as a mean over all pairs; ``out.loss`` leaves out those that see no place twice."""
    share = num_seeing(pairs) / len(pairs.feat)
    of_codebook = sum(out.loss_terms.values())
    return share * (out.loss - of_codebook) + of_codebook


def num_seeing(pairs: PairTokens) -> int:
    """Pairs of which some place is seen by both frames."""
    return int(seen_by_both(pairs).any(1).sum())
