"""Slow, obvious twins of the point encoder's kernels, with plain loops over points and clouds."""

from __future__ import annotations

import numpy as np


def z_code(x: int, y: int, z: int, depth: int) -> int:
    code = 0
    for bit in range(depth):
        code |= (
            ((x >> bit) & 1) << (3 * bit + 2)
            | ((y >> bit) & 1) << (3 * bit + 1)
            | ((z >> bit) & 1) << (3 * bit)
        )
    return code


def hilbert_code(x: int, y: int, z: int, depth: int) -> int:
    axes = [x, y, z]
    for bit in range(depth - 1, -1, -1):
        low = (1 << bit) - 1
        for k in range(3):
            if (axes[k] >> bit) & 1:
                axes[0] ^= low
            else:
                first, other = axes[0], axes[k]
                axes[0] = (first & ~low) | (other & low)
                axes[k] = (axes[k] & ~low) | (first & low)
    gray = z_code(*axes, depth)
    binary = 0
    for bit in range(3 * depth - 1, -1, -1):
        binary |= (((binary >> (bit + 1)) ^ (gray >> bit)) & 1) << bit
    return binary


def curve_code(name: str, cell: list[int], depth: int) -> int:
    x, y, z = cell
    if name.endswith("-trans"):
        x, y = y, x
    return (z_code if name.startswith("z") else hilbert_code)(x, y, z, depth)


def queries_and_keys(counts: list[int], patch_size: int) -> dict[int, list[int]]:
    """For each place in the serial order, the places that it attends to."""
    keys_of = {}
    start = 0
    for count in counts:
        for first in range(0, count, patch_size):
            end = min(first + patch_size, count)
            keys = range(max(end - patch_size, 0), end)
            for place in range(first, end):
                keys_of[start + place] = [start + key for key in keys]
        start += count
    return keys_of


def attend(qkv: np.ndarray, keys_of: dict[int, list[int]], order: list[int], heads: int) -> np.ndarray:
    """Softmax attention of every row, before the output projection."""
    split = qkv.reshape(len(qkv), 3, heads, -1)
    out = np.zeros((len(qkv), heads, split.shape[-1]))
    for place, row in enumerate(order):
        keys = [order[key] for key in keys_of[place]]
        for head in range(heads):
            scores = split[keys, 1, head] @ split[row, 0, head] / np.sqrt(split.shape[-1])
            weights = np.exp(scores - scores.max())
            out[row, head] = (weights / weights.sum()) @ split[keys, 2, head]
    return out.reshape(len(qkv), -1)


def sparse_conv(
    feat: np.ndarray, cells: list[tuple[int, ...]], clouds: list[int], weight: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    row_of = {(cloud, *cell): row for row, (cloud, cell) in enumerate(zip(clouds, cells, strict=True))}
    out = np.tile(bias, (len(feat), 1)).astype(np.float64)
    for (cloud, x, y, z), row in row_of.items():
        for a, b, c in np.ndindex(3, 3, 3):
            neighbour = row_of.get((cloud, x + a - 1, y + b - 1, z + c - 1))
            if neighbour is not None:
                out[row] += weight[:, a, b, c, :].astype(np.float64) @ feat[neighbour]
    return out


def pool(
    feat: np.ndarray, cells: list[tuple[int, ...]], clouds: list[int], stride: int
) -> tuple[list[tuple[int, ...]], list[int], np.ndarray, np.ndarray]:
    """Parents as (cloud, x, y, z), the parent of each row, and maximum and mean over its members."""
    parent_of = [
        (cloud, *(axis // stride for axis in cell)) for cloud, cell in zip(clouds, cells, strict=True)
    ]
    parents = sorted(set(parent_of))
    inverse = [parents.index(parent) for parent in parent_of]
    members = [[row for row, owner in enumerate(inverse) if owner == index] for index in range(len(parents))]
    largest = np.array([feat[rows].max(axis=0) for rows in members])
    return parents, inverse, largest, np.array([feat[rows].mean(axis=0) for rows in members])
