"""Frames as rows of square patches: the only thing that the pixels-only rival sees."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

_LEAST_STD = 1e-3  # of colours in [0, 1]; below it is coding noise, and would blow up


def to_patches(
    frames: UInt8[Tensor, "pairs 2 height width 3"], *, patch_size: int
) -> Float[Tensor, "pairs 2 patches channels"]:
    """Colours in [0, 1], row of patches by row of patches."""
    return rearrange(
        frames.float() / 255, "b f (r p) (c q) k -> b f (r c) (p q k)", p=patch_size, q=patch_size
    )


def patch_centres(per_side: int) -> Float[Tensor, "patches 3"]:
    """Centres in the [-1, 1] picture, column first; the third axis is 0, for blocks that know three."""
    along = (torch.arange(per_side) + 0.5) * 2 / per_side - 1
    row, column = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([column, row, torch.zeros_like(row)], dim=-1).flatten(0, 1)


def patch_statistics(
    batches: Iterable[Float[Tensor, "_pairs 2 patches channels"]],
) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Mean and standard deviation of each channel over all patches of both frames."""
    count = 0
    total = squares = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        rows = batch.flatten(0, 2).double()
        count += len(rows)
        total, squares = total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), std.float().clamp(min=_LEAST_STD)
