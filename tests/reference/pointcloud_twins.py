"""Point cloud operations as plain loops: slow, obvious, one point or pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import torch


def keep_points(depth, confidence, *, confidence_percentile, depth_edge_ratio):
    """One view at a time, [height, width]."""
    height, width = depth.shape
    with_depth = [
        (r, c) for r in range(height) for c in range(width) if math.isfinite(depth[r, c]) and depth[r, c] > 0
    ]
    ascending = sorted(float(confidence[at]) for at in with_depth)
    kept = torch.zeros(height, width, dtype=torch.bool)
    for r, c in with_depth:
        threshold = ascending[math.floor(len(ascending) * confidence_percentile / 100)]
        neighbours = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
        d = depth[r, c]
        jumps = [
            abs(d - depth[n]) > depth_edge_ratio * min(d, depth[n]) for n in neighbours if n in with_depth
        ]
        kept[r, c] = confidence[r, c] >= threshold and not any(jumps)
    return kept


def voxelize(coord, batch, *, voxel_size, origin):
    """{(cloud, x, y, z): row nearest to the centre, the first of equals}, and the cell of each row."""
    best, cell_of_row = {}, []
    for row, (point, cloud) in enumerate(zip(coord.double().tolist(), batch.tolist(), strict=True)):
        scaled = [(value - origin) / voxel_size for value in point]
        cell = (cloud, *(math.floor(value) for value in scaled))
        x, y, z = (value - math.floor(value) - 0.5 for value in scaled)
        distance = x * x + y * y + z * z
        if cell not in best or distance < best[cell][0]:
            best[cell] = (distance, row)
        cell_of_row.append(cell)
    return {cell: row for cell, (_, row) in best.items()}, cell_of_row


def share_threshold(priority, batch, *, max_points, num_clouds, views):
    """Rows at or below the smallest of the scene's thresholds."""
    kept = []
    for scene in range(num_clouds // views):
        thresholds = [math.inf]
        for cloud in range(scene * views, (scene + 1) * views):
            ascending = sorted(p for p, b in zip(priority, batch, strict=True) if b == cloud)
            if len(ascending) > max_points:
                thresholds.append(ascending[max_points - 1])
        kept += [
            row for row, b in enumerate(batch) if b // views == scene and priority[row] <= min(thresholds)
        ]
    return sorted(kept)


def farthest(coord, max_points, start):
    """Rows of one cloud, from the row ``start``."""
    chosen = [start]
    while len(chosen) < max_points:
        nearest = [min(float(((point - coord[c]) ** 2).sum()) for c in chosen) for point in coord]
        chosen.append(int(np.argmax(nearest)))
    return sorted(chosen)


def fit_scene_box(points, up, *, half_extent_m, radius_percentile):
    """Rotation by axis and angle, numpy's median, percentile by counting; points [n, 3] of one scene."""
    axis, z = np.cross(up, [0, 0, 1]), up[2]
    sine = np.linalg.norm(axis)
    a = axis / sine if sine > 0 else axis
    skew = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    rotation = np.eye(3) + sine * skew + (1 - z) * skew @ skew
    level = points @ rotation.T
    centre = np.median(level, axis=0)
    radii = sorted(np.abs(level - centre).max(axis=1))
    radius = next(r for r in radii if sum(s <= r for s in radii) >= len(radii) * radius_percentile / 100)
    return rotation, rotation.T @ centre, half_extent_m / radius


def pool_cells(feat, coord, normal, color, is_seen_through, *, displacement, cell_size_m, half_extent_m):
    """{cell: token} of one view."""
    members = {}
    for row, point in enumerate(coord.double().tolist()):
        cell = tuple(math.floor((value + half_extent_m) / cell_size_m) for value in point)
        members.setdefault(cell, []).append(row)
    tokens = {}
    for cell, rows in members.items():
        centre = torch.tensor([-half_extent_m + (index + 0.5) * cell_size_m for index in cell])
        place = torch.stack([(coord[row] - centre) / cell_size_m for row in rows]).mean(dim=0)
        occupancy = torch.tensor([min(1.0, math.log(1 + len(rows)) / math.log(17))])
        share = is_seen_through[rows].float().mean()[None]
        shifts = [displacement[row] for row in rows if displacement[row].any()]
        shift = torch.stack(shifts).mean(dim=0) if shifts else torch.zeros(3)
        tokens[cell] = torch.cat(
            [feat[rows].mean(0), occupancy, share, shift, place, normal[rows].mean(0), color[rows].mean(0)]
        )
    return tokens


def select_tokens(geometry, state, is_valid, hashes, *, max_tokens, changed_share):
    """Cell numbers of one pair, in order; geometry [2, cells, 14], state [2, cells]."""
    cells = [cell for cell in range(len(is_valid)) if is_valid[cell]]

    def score(cell):
        change = float((geometry[1, cell] - geometry[0, cell]).abs().sum())
        return change + 2**26 * max(float(geometry[0, cell, 1]), float(geometry[1, cell, 1]))

    seen = [cell for cell in cells if state[0][cell] != 0 and state[1][cell] != 0 and score(cell) > 1e-6]
    changed = sorted(seen, key=lambda cell: -score(cell))[: int(changed_share * max_tokens)]
    rest = [cell for cell in cells if cell not in changed]
    rest.sort(
        key=lambda cell: (state[0][cell] != 1 or state[1][cell] != 1, state[0][cell] != 2, hashes[cell])
    )
    return (changed + rest)[:max_tokens]
