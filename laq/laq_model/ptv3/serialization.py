"""Space-filling curves: the orders in which a stage's points stand in a row.

Z-order (Morton 1966) interleaves the bits of x, y and z. The Hilbert curve follows J. Skilling, "Programming
the Hilbert curve", AIP Conference Proceedings 707 (2004). A ``-trans`` curve exchanges x and y.

A Hilbert code depends on the number of bits: with one bit more, the curve's axes turn. Z-order does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ..errors import GeometryError

CURVES = ("z", "z-trans", "hilbert", "hilbert-trans")
MAX_DEPTH = 16  # bits of a cell coordinate: three of them and the cloud's number share one signed 64-bit word
_WORD_BITS = 63


@dataclass(frozen=True)
class Serialization:
    """The rows of a stage along each curve; a cloud's rows stay together, clouds in their own order.

    Attributes:
        code: cloud number, then place on the curve; in the rows' own order.
        order: the rows by ascending code.
        rank: where each row stands in ``order``.
    """

    code: Int[Tensor, "orders points"]
    order: Int[Tensor, "orders points"]
    rank: Int[Tensor, "orders points"]


def serialization_depth(max_grid_coord: int) -> int:
    """Bits of a cell coordinate. One more than its largest value must fit, so 2^k − 1 takes k + 1 bits."""
    return (max_grid_coord + 1).bit_length()


def check_code_fits(max_grid_coord: int, *, num_clouds: int) -> None:
    """Raise unless a cell coordinate has at most 16 bits, and cloud and cell fit one 63-bit word.

    Raises:
        GeometryError: the cloud is too extended for its cells, or there are too many clouds.
    """
    depth = serialization_depth(max_grid_coord)
    if depth > MAX_DEPTH:
        raise GeometryError(
            f"grid_coord reaches {max_grid_coord}, at most {2**MAX_DEPTH - 2} can be serialized; "
            "use larger voxels or cut the cloud"
        )
    if 3 * depth + num_clouds.bit_length() > _WORD_BITS:
        raise GeometryError(
            f"{num_clouds} clouds of {depth}-bit cells exceed {_WORD_BITS} bits; use smaller batches"
        )


def serialize(
    grid_coord: Int[Tensor, "points 3"],
    cloud_index: Int[Tensor, " points"],
    *,
    depth: int,
    curves: Sequence[str],
) -> Serialization:
    """Put the points in a row along each curve; codes of occupied cells are distinct inside a cloud."""
    place = curve_codes(grid_coord, depth=depth, curves=curves)
    code = (cloud_index.long() << (3 * depth)) | place
    order = code.argsort(dim=1)
    steps = torch.arange(code.shape[1], device=code.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, steps)
    return Serialization(code=code, order=order, rank=rank)


def curve_codes(
    grid_coord: Int[Tensor, "points 3"], *, depth: int, curves: Sequence[str]
) -> Int[Tensor, "curves points"]:
    """Place of each cell on each curve, from 0 to 8^depth − 1."""
    axes = grid_coord.long().T
    exchanged = axes[[1, 0, 2]]
    # Both Hilbert curves go through the bit loop together.
    place: dict[str, Tensor] = {}
    for family, code_of in (("z", _z_code), ("hilbert", _hilbert_code)):
        names = [name for name in (family, f"{family}-trans") if name in curves]
        if names:
            inputs = torch.stack([exchanged if name.endswith("-trans") else axes for name in names], dim=1)
            place |= dict(zip(names, code_of(inputs, depth), strict=True))
    return torch.stack([place[name] for name in curves])


def _z_code(axes: Int[Tensor, "axes=3 *points"], depth: int) -> Int[Tensor, "*points"]:
    """Bit i of x, y, z goes to bit 3i + 2, 3i + 1, 3i."""
    spread = _spread_bits(axes)
    return (spread[0] << 2) | (spread[1] << 1) | spread[2]


def _hilbert_code(axes: Int[Tensor, "axes=3 *points"], depth: int) -> Int[Tensor, "*points"]:
    """Skilling's AxesToTranspose, bit planes from the top, then Gray code to binary."""
    x, y, z = axes.unbind()
    for bit in range(depth - 1, -1, -1):
        low = (1 << bit) - 1
        # Where the bit is set, invert the low bits of x; elsewhere exchange them with those of the axis
        # (for x itself, nothing).
        x = x ^ (-((x >> bit) & 1) & low)
        x, y = _invert_or_exchange(x, y, bit, low)
        x, z = _invert_or_exchange(x, z, bit, low)
    code = _z_code(torch.stack([x, y, z]), depth)
    for shift in (1, 2, 4, 8, 16, 32):  # prefix XOR from the top bit
        code = code ^ (code >> shift)
    return code


def _invert_or_exchange(
    x: Int[Tensor, "*points"], other: Int[Tensor, "*points"], bit: int, low: int
) -> tuple[Int[Tensor, "*points"], Int[Tensor, "*points"]]:
    is_set = -((other >> bit) & 1)  # all ones where the bit is set
    difference = (x ^ other) & low & ~is_set
    return x ^ (difference | (is_set & low)), other ^ difference


def _spread_bits(value: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Move bit i of a 16-bit number to bit 3i."""
    for shift, mask in (
        (16, 0x00FF0000FF),
        (8, 0x00F00F00F00F),
        (4, 0x0C30C30C30C3),
        (2, 0x249249249249),
    ):
        value = (value | (value << shift)) & mask
    return value
