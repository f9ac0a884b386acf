"""A fixed shuffle of grid cells: a cell's rank depends on the cell alone, not on cloud, batch or device."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from ..errors import GeometryError

BITS_PER_AXIS = 20
_HALF_BITS = 30
_HALF_MASK = (1 << _HALF_BITS) - 1
# Odd numbers near 2³¹ divided by square roots of small primes; any odd numbers with mixed bits do.
_ROUND_FACTORS = (0x5A827999, 0x6ED9EBA1, 0x4A3B0F35, 0x39CC0605)


def cell_hash(cell: Int[Tensor, "*batch 3"], *, salt: int = 0) -> Int[Tensor, "*batch"]:
    """A whole number in [0, 2⁶⁰) for each cell; different cells never share one.

    The three coordinates are packed into 60 bits and mixed by four rounds of a Feistel network (Luby &
    Rackoff, SIAM J. Computing 1988), which is a permutation whatever its round function is. No product
    exceeds 63 bits.

    Args:
        cell: coordinates from 0 to 2²⁰ − 1.
        salt: another salt gives another permutation.

    Raises:
        GeometryError: a coordinate is outside that range.
    """
    if cell.numel() and bool(((cell < 0) | (cell >= 1 << BITS_PER_AXIS)).any()):
        raise GeometryError(
            f"grid cells must be from 0 to {(1 << BITS_PER_AXIS) - 1}, "
            f"got {int(cell.min())} to {int(cell.max())}; use a larger voxel or a smaller box"
        )
    x, y, z = cell.long().unbind(-1)
    packed = (x << 2 * BITS_PER_AXIS) | (y << BITS_PER_AXIS) | z
    left, right = packed >> _HALF_BITS, packed & _HALF_MASK
    for factor in _ROUND_FACTORS:
        mixed = ((right ^ (salt & _HALF_MASK)) + 1) * factor
        mixed = mixed ^ (mixed >> 29)
        left, right = right, left ^ ((mixed ^ (mixed >> 13)) & _HALF_MASK)
    return (left << _HALF_BITS) | right
