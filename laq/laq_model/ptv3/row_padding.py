"""Spare rows at the end of a stage, so that equal clouds get equal bits wherever they stand in a batch.

A BLAS works on tiles of rows and may sum the last, incomplete tile in another order. MKL's AVX2 kernels do:
two copies of one cloud in a batch then differed by rounding in 29 % of the products tried (shapes of this
network, one thread), and in none once the rows were a multiple of 24. Its AVX-512 kernels change only below
16 rows. Spare rows are never neighbours or keys of real rows, and are cut off at the end of a stage.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ROW_TILE = 24  # rows; see above


def padded_length(num_rows: int) -> int:
    """Rows with padding; at least one of them is spare."""
    return (num_rows // ROW_TILE + 1) * ROW_TILE


def pad_rows(feat: Float[Tensor, "points channels"]) -> Float[Tensor, "padded_points channels"]:
    """Append rows of zeros."""
    return F.pad(feat, (0, 0, 0, padded_length(len(feat)) - len(feat)))
