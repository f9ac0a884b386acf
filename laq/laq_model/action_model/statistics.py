"""In what unit each channel's change, and the motion, are measured: statistics of a training set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..structures import DISPLACEMENT, GEOMETRY_CHANNELS, OCCUPANCY, OCCUPIED, SEEN_THROUGH, PairTokens
from .motion import MOTION_CHANNELS, scene_motion
from .places import refuse_non_finite

# A deviation below this share of the mean is rounding in a float16 store, not variation.
CONSTANT_SHARE = 1e-3


class TokenStatistics(NamedTuple):
    """Of a training set.

    Attributes:
        mean: of each channel.
        std: of each channel.
        motion_size: root mean square of each number of ``scene_motion``.
    """

    mean: Float[Tensor, " channels"]
    std: Float[Tensor, " channels"]
    motion_size: Float[Tensor, " motion_channels"]


def feature_statistics(batches: Iterable[PairTokens], *, is_per_channel: bool = True) -> TokenStatistics:
    """Mean and standard deviation of each channel over all occupied places of both frames; size of motion.

    A channel that does not vary gets 1 for its deviation, and motion that never happens 1 for its size.
    Occupancy and the share of points seen through get mean 0 and deviation 1: they stay as they are, so that
    an occupied place differs from a free one. Displacements get mean 0 and, for all three axes, the root mean
    square of those that were found.

    Args:
        batches: of training pairs.
        is_per_channel: else all network channels are measured in one unit, the root mean square of theirs.

    Raises:
        ValueError: no occupied place in any batch, or features that are not finite.
    """
    count, num_pairs, num_displaced = 0, 0, 0
    total = squares = torch.zeros((), dtype=torch.float64)
    motion = torch.zeros(MOTION_CHANNELS, dtype=torch.float64)
    for batch in batches:
        refuse_non_finite(batch)
        is_counted = (batch.state == OCCUPIED) & batch.is_valid[:, None]
        rows = batch.feat[is_counted].double()
        count += len(rows)
        total, squares = total.to(rows.device) + rows.sum(0), squares.to(rows.device) + rows.square().sum(0)
        motion = motion.to(rows.device) + scene_motion(batch).double().square().sum(0)
        num_pairs += len(batch.feat)
        num_displaced += int((rows[:, DISPLACEMENT] != 0).any(-1).sum())
    if count == 0:
        raise ValueError("no place is occupied in any of these pairs; feature statistics need at least one")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    is_constant = std <= CONSTANT_SHARE * mean.abs() + 1e-6
    std = torch.where(is_constant, torch.ones_like(std), std)
    if not is_per_channel:
        network = slice(None, -GEOMETRY_CHANNELS)
        std[network] = std[network].square().mean().sqrt()
    for channel in (OCCUPANCY, SEEN_THROUGH):
        mean[channel], std[channel] = 0.0, 1.0
    mean[DISPLACEMENT] = 0.0
    shift = squares[DISPLACEMENT].sum() / max(3 * num_displaced, 1)
    std[DISPLACEMENT] = shift.sqrt() if num_displaced else 1.0
    size = (motion / num_pairs).sqrt()
    size = torch.where(size > 1e-6, size, torch.ones_like(size))
    return TokenStatistics(mean.float(), std.float(), size.float())
