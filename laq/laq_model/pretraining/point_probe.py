"""What point features know: can a linear probe tell the points of things that moved?

One cloud shows one moment, so the probe must know a robot's hand or a handled object by its shape and colour.
Ground truth is the renderer's: the depth behind the point's pixel changed between two frames of a camera that
stood still.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .point_clouds import CloudBank, PointBatch

PROBE_CLOUDS = 80  # of each bank, at most
RIDGE = 1e-3  # beside unit-variance features

Features = Callable[[PointBatch], Float[Tensor, "points channels"]]


def probe_moved_points(features: Features, train: CloudBank, held_out: CloudBank) -> float:
    """Area under the ROC curve, on held-out clouds, of a ridge probe fitted on training ones; chance: 0.5."""
    x, y = _probe_set(features, train)
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    x = (x - mean) / spread
    target = y.double() - y.double().mean()
    normal_matrix = x.T @ x / len(x) + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(normal_matrix, x.T @ target / len(x))
    x, y = _probe_set(features, held_out)
    return area_under_curve((x - mean) / spread @ weight, y)


def area_under_curve(score: Float[Tensor, " points"], is_positive: Bool[Tensor, " points"]) -> float:
    """Chance that a random positive scores above a random negative (ties in order of appearance)."""
    rank = torch.empty(len(score), dtype=torch.float64)
    rank[score.argsort()] = torch.arange(1, len(score) + 1, dtype=torch.float64)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    return float((rank[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


@torch.no_grad()
def _probe_set(
    features: Features, bank: CloudBank
) -> tuple[Float[Tensor, "points channels"], Bool[Tensor, " points"]]:
    still = [number for number in range(len(bank)) if bool(bank.batch([number]).is_still)]
    step = max(1, len(still) // PROBE_CLOUDS)
    parts = [bank.batch([number]) for number in still[::step][:PROBE_CLOUDS]]
    return torch.cat([features(part).double() for part in parts]), torch.cat(
        [part.has_moved for part in parts]
    )
