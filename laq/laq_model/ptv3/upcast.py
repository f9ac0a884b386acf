"""Join the features of several stages on the cells of the finest of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def join_levels(
    feats: Sequence[Float[Tensor, "_ _"]], inverses: Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, "cells channels"]:
    """Repeat each coarser stage's features on the next finer stage, finer channels first.

    Args:
        feats: features of the stages, finest first.
        inverses: for each stage but the finest, its row for each row of the next finer one.
    """
    joined = feats[-1]
    for finer, inverse in zip(reversed(feats[:-1]), reversed(inverses), strict=True):
        joined = torch.cat([finer, joined.index_select(0, inverse)], dim=1)
    return joined
