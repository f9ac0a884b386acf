"""At most ``max_points`` points of each cloud, chosen so that the frames of a scene keep the same places.

``voxel`` and ``random`` rank cells by a fixed, or freshly salted, shuffle of the grid, and keep the cells
below one threshold for all views of a scene: what did not change is then kept, or dropped, in both frames.
``farthest`` looks at each cloud alone (Eldar et al., The farthest point strategy, IEEE Trans. Image
Processing 1997).
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError
from .batching import count_rows, rank_in_group
from .cell_hash import cell_hash

Method = Literal["voxel", "random", "farthest"]
_ABOVE_ALL_HASHES = 2**60


def subsample(
    grid_coord: Int[Tensor, "points 3"],
    coord: Float[Tensor, "points 3"],
    batch: Int[Tensor, " points"],
    *,
    max_points: int,
    method: Method,
    generator: torch.Generator | None = None,
    num_clouds: int,
    views: int = 1,
) -> Int[Tensor, " kept"]:
    """Rows to keep, ascending; no scene influences another.

    Args:
        grid_coord: cell of each point, from 0; no cell twice in a cloud.
        coord: any unit.
        batch: cloud number of each point.
        max_points: most points that a cloud may keep.
        method: ``voxel`` always keeps the same cells; ``random`` keeps other cells for each state of the
            generator; ``farthest`` starts at the point nearest the centroid and adds the farthest one in
            turn.
        generator: for ``random`` only.
        num_clouds: clouds, empty ones included; a multiple of ``views``.
        views: consecutive clouds that show one scene.

    Raises:
        ConfigError: an unknown method, ``random`` without a generator, or a count that cannot be.
    """
    if max_points < 1:
        raise ConfigError(f"max_points must be at least 1, got {max_points}")
    if views < 1 or num_clouds % views:
        raise ConfigError(
            f"num_clouds must be a multiple of views, got {num_clouds} clouds and {views} views"
        )
    if method == "voxel":
        return _below_shared_threshold(cell_hash(grid_coord), batch, max_points, num_clouds, views)
    if method == "random":
        if generator is None:
            raise ConfigError("random subsampling needs a torch.Generator, so that a run can be repeated")
        salt = int(torch.randint(2**30, (), generator=generator, device=generator.device))
        return _below_shared_threshold(cell_hash(grid_coord, salt=salt), batch, max_points, num_clouds, views)
    if method == "farthest":
        return _farthest(grid_coord, coord, batch, max_points, num_clouds)
    raise ConfigError(f"subsampling must be voxel, random or farthest, got {method!r}")


def _below_shared_threshold(
    priority: Int[Tensor, " points"],
    batch: Int[Tensor, " points"],
    max_points: int,
    num_clouds: int,
    views: int,
) -> Int[Tensor, " kept"]:
    """Rows whose priority is at most that of the last one that fits, in the fullest of the scene's clouds."""
    by_priority = torch.argsort(priority, stable=True)
    rank = rank_in_group(batch[by_priority], num_groups=num_clouds)
    is_last = rank == max_points - 1
    last = by_priority[is_last]
    threshold = torch.full((num_clouds,), _ABOVE_ALL_HASHES, dtype=torch.long, device=batch.device)
    is_full = count_rows(batch, num_groups=num_clouds) > max_points
    threshold[batch[last]] = torch.where(is_full[batch[last]], priority[last], _ABOVE_ALL_HASHES)
    shared = rearrange(threshold, "(scenes views) -> scenes views", views=views).amin(dim=1)
    return (priority <= shared[batch // views]).nonzero().squeeze(-1)


def _farthest(
    grid_coord: Int[Tensor, "points 3"],
    coord: Float[Tensor, "points 3"],
    batch: Int[Tensor, " points"],
    max_points: int,
    num_clouds: int,
) -> Int[Tensor, " kept"]:
    counts = count_rows(batch, num_groups=num_clouds)
    is_full = counts > max_points
    is_kept = ~is_full[batch]
    full = is_full.nonzero().squeeze(-1)
    if len(full) == 0:
        return is_kept.nonzero().squeeze(-1)
    slot = rank_in_group(batch, num_groups=num_clouds)
    row_of = torch.full((num_clouds, int(counts.max())), -1, dtype=torch.long, device=batch.device)
    row_of[batch, slot] = torch.arange(len(batch), device=batch.device)
    row_of = row_of[full]
    is_real, padded = row_of >= 0, coord[row_of]
    from_chosen = torch.where(is_real, torch.inf, -1.0).to(coord.dtype)
    newest = _nearest_to_centroid(grid_coord, batch, row_of, counts)
    cloud = torch.arange(len(full), device=batch.device)
    chosen = [newest]
    for _ in range(max_points - 1):
        from_newest = _squared_distance(padded, padded[cloud, newest][:, None])
        from_chosen = torch.minimum(from_chosen, from_newest)
        newest = from_chosen.argmax(dim=1)
        chosen.append(newest)
    is_kept[row_of[cloud, torch.stack(chosen)].flatten()] = True
    return is_kept.nonzero().squeeze(-1)


def _nearest_to_centroid(
    grid_coord: Int[Tensor, "points 3"],
    batch: Int[Tensor, " points"],
    row_of: Int[Tensor, "clouds slots"],
    counts: Int[Tensor, " all_clouds"],
) -> Int[Tensor, " clouds"]:
    """Slot of the point whose cell is nearest to the mean cell; whole numbers add exactly in any order."""
    total = torch.zeros(len(counts), 3, dtype=torch.long, device=batch.device).index_add_(
        0, batch, grid_coord.long()
    )
    mean = total.double() / counts.clamp(min=1)[:, None]
    cloud = batch[row_of[:, 0]]
    distance = _squared_distance(grid_coord[row_of].double(), mean[cloud][:, None])
    return torch.where(row_of >= 0, distance, torch.inf).argmin(dim=1)


def _squared_distance(
    a: Float[Tensor, " clouds #slots 3"], b: Float[Tensor, " clouds #slots 3"]
) -> Float[Tensor, "clouds slots"]:
    x, y, z = (a - b).unbind(-1)
    return x * x + y * y + z * z
