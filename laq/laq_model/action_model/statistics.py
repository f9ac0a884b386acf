"""In what unit each channel's change is measured: statistics of a training set."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ..structures import GEOMETRY_CHANNELS, OCCUPIED, PairTokens
from .places import refuse_non_finite

# A deviation below this share of the mean is rounding in a float16 store, not variation.
CONSTANT_SHARE = 1e-3


def feature_statistics(
    batches: Iterable[PairTokens],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation of each channel over all occupied places of both frames.

    A channel that does not vary gets 1 for its deviation. Occupancy gets mean 0 and deviation 1: it stays as
    it is, so that an occupied place differs from a free one.

    Raises:
        ValueError: no occupied place in any batch, or features that are not finite.
    """
    count = 0
    total = squares = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        refuse_non_finite(batch)
        is_counted = (batch.state == OCCUPIED) & batch.is_valid[:, None]
        rows = batch.feat[is_counted].double()
        count += len(rows)
        total, squares = total.to(rows.device) + rows.sum(0), squares.to(rows.device) + rows.square().sum(0)
    if count == 0:
        raise ValueError("no place is occupied in any of these pairs; feature statistics need at least one")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    is_constant = std <= CONSTANT_SHARE * mean.abs() + 1e-6
    std = torch.where(is_constant, torch.ones_like(std), std)
    mean[-GEOMETRY_CHANNELS], std[-GEOMETRY_CHANNELS] = 0.0, 1.0
    return mean.float(), std.float()
