"""Point features that do not depend on what else is in the batch.

A network that is run on a batch gives each cloud the same numbers up to rounding only: a matrix library sums
in another order when there are more rows, or where a row falls into another of its tiles. Two rules make
more of it, without asking anything of the library:

* clouds with equal cells and features are encoded once, and the result is handed out as often as needed, so
  the same cloud twice has a difference of exactly zero;
* with ``clouds_per_call=1`` every call sees one cloud, in memory of its own, so the operations on it and
  their operands are those of the cloud alone.

On a CPU one cloud at a time takes no longer than a batch; a GPU needs batches to be busy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .model import PointTransformerV3


def point_features(
    network: PointTransformerV3,
    *,
    coord: Float[Tensor, "points 3"],
    grid_coord: Int[Tensor, "points 3"],
    feat: Float[Tensor, "points in_channels"],
    offset: Int[Tensor, " clouds"],
    max_grid_coord: int,
    levels: int,
    clouds_per_call: int,
) -> Float[Tensor, "points channels"]:
    """Features of every point: the deepest stage joined with the ``levels`` before it.

    Args:
        coord: as for the network, like ``grid_coord``, ``feat``, ``offset`` and ``max_grid_coord``.
        levels: finer stages joined to the deepest one.
        clouds_per_call: how many clouds the network sees at a time, at most.

    Raises:
        GeometryError: as the network.
        ValueError: there are not so many stages, or no cloud would be seen.
    """
    if clouds_per_call < 1:
        raise ValueError(f"clouds_per_call must be at least 1, got {clouds_per_call}")
    ends = offset.tolist()
    rows = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    first = first_equal_cloud(grid_coord, feat, rows)
    distinct = sorted(set(first))
    features: list[Tensor] = []
    parts: list[Tensor] = []
    for start in range(0, len(distinct), clouds_per_call):
        group = distinct[start : start + clouds_per_call]
        counts = [rows[cloud].stop - rows[cloud].start for cloud in group]
        out = network(
            # Joining copies: even a single cloud starts at an address of its own, aligned like any other.
            coord=torch.cat([coord[rows[cloud]] for cloud in group]),
            grid_coord=torch.cat([grid_coord[rows[cloud]] for cloud in group]),
            feat=torch.cat([feat[rows[cloud]] for cloud in group]),
            offset=torch.tensor(counts).cumsum(0),
            max_grid_coord=max_grid_coord,
        )
        features.append(out.to_points(levels))
        parts.extend(features[-1].split(counts))
    if len(features) == 1 and len(distinct) == len(rows):
        return features[0]  # all clouds in their order: joining would copy the largest tensor of all
    encoded = dict(zip(distinct, parts, strict=True))
    return torch.cat([encoded[cloud] for cloud in first])


def first_equal_cloud(
    grid_coord: Int[Tensor, "points 3"], feat: Float[Tensor, "points channels"], rows: Sequence[slice]
) -> list[int]:
    """For each cloud, the number of the first one with equal rows in equal order (often its own)."""
    sums = _checksums(grid_coord, rows)
    first: list[int] = []
    for cloud, own in enumerate(rows):
        for earlier in sorted(set(first)):
            other = rows[earlier]
            if (
                sums[cloud] == sums[earlier]
                and torch.equal(grid_coord[own], grid_coord[other])
                and torch.equal(feat[own], feat[other])
            ):
                first.append(earlier)
                break
        else:
            first.append(cloud)
    return first


def _checksums(grid_coord: Int[Tensor, "points 3"], rows: Sequence[slice]) -> list[tuple[int, int]]:
    """Number of points and a sum over the cells of each cloud, so that few clouds are compared in full."""
    device = grid_coord.device
    counts = [own.stop - own.start for own in rows]
    cloud_index = torch.arange(len(rows)).repeat_interleave(torch.tensor(counts, dtype=torch.long)).to(device)
    word = (grid_coord.long() * torch.tensor([1, 1_000_003, 998_244_353], device=device)).sum(dim=1)
    sums = word.new_zeros(len(rows)).index_add_(0, cloud_index, word)
    return list(zip(counts, sums.tolist(), strict=True))
