"""Rotary position encoding for two axes: half of a head's channels turn by the row, half by the column.

With m channels in a half and base b, pair j turns by position · b^(−2j/m); channel j pairs with channel j +
m/2 of its half, as in RoFormer (Su et al. 2021) in its half-split form. VGGT counts patches from 1 and
gives its special tokens position (0, 0), which leaves them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .kept_tensors import kept_by_arguments


@dataclass(frozen=True)
class RotationTable:
    """Cosine and sine of every token and channel; the sine carries the sign with which the partner enters."""

    cos: Float[Tensor, "tokens channels"]
    signed_sin: Float[Tensor, "tokens channels"]

    def repeat(self, times: int) -> RotationTable:
        """The table of that many frames, one after the other."""
        if times == 1:
            return self
        return RotationTable(self.cos.repeat(times, 1), self.signed_sin.repeat(times, 1))


def rotation_table(
    positions: Int[Tensor, "tokens 2"], *, head_channels: int, base: float, dtype: torch.dtype = torch.float32
) -> RotationTable:
    """Table for tokens at (row, column) positions; angles are computed in float64."""
    half = head_channels // 2
    exponent = torch.arange(0, half, 2, dtype=torch.float64, device=positions.device) / half
    angle = positions[:, :, None] * base**-exponent
    cos, sin = angle.cos(), angle.sin()
    return RotationTable(
        cos=torch.cat([cos, cos], dim=-1).flatten(1).to(dtype),
        signed_sin=torch.cat([-sin, sin], dim=-1).flatten(1).to(dtype),
    )


def rotate(
    heads: Float[Tensor, "batch tokens heads channels"], table: RotationTable
) -> Float[Tensor, "batch tokens heads channels"]:
    """Turn every pair of channels by its token's angles."""
    halves = heads.unflatten(-1, (2, 2, -1))  # axis, member of the pair, pair
    partner = halves.flip(-2).flatten(-3)
    return torch.addcmul(heads * table.cos[:, None], partner, table.signed_sin[:, None])


def frame_rotation(
    grid: tuple[int, int],
    *,
    num_special_tokens: int,
    head_channels: int,
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> RotationTable:
    """Table of one frame, kept by its arguments: special tokens at (0, 0), then patches from (1, 1)."""
    cos, signed_sin = _frame_tables(*grid, num_special_tokens, head_channels, base, device, dtype)
    return RotationTable(cos, signed_sin)


@kept_by_arguments
def _frame_tables(  # noqa: PLR0917 (kept by position)
    num_rows: int,
    num_columns: int,
    num_special_tokens: int,
    head_channels: int,
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(num_rows) + 1, torch.arange(num_columns) + 1, indexing="ij")
    patches = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    positions = torch.cat([patches.new_zeros(num_special_tokens, 2), patches])
    table = rotation_table(positions, head_channels=head_channels, base=base, dtype=dtype)
    return table.cos.to(device), table.signed_sin.to(device)
