"""What point features know, asked by linear probes on held-out clouds.

Three questions, each with the renderer's answer: which points lie on something that moves (one cloud shows
one moment, so a hand or a handled object must be known by its shape and colour); on what kind of thing a
point lies; and, where the clouds' normals are withheld, which way the surface looks there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .point_clouds import CloudBank, PointBatch

PROBE_CLOUDS = 80  # of each bank, at most
RIDGE = 1e-3  # beside unit-variance features

Features = Callable[[PointBatch], Float[Tensor, "points channels"]]
_Predict = Callable[[Float[Tensor, "points channels"]], Float[Tensor, "points targets"]]


def probe_moved_points(features: Features, train: CloudBank, held_out: CloudBank) -> float:
    """Area under the ROC curve, on held-out clouds, of a ridge probe fitted on training ones; chance: 0.5."""
    x, clouds = _probe_set(features, train, only_still=True)
    moved = torch.cat([cloud.has_moved for cloud in clouds])
    predict = fit_ridge(x, moved[:, None].double(), torch.ones(len(x)).double())
    x, clouds = _probe_set(features, held_out, only_still=True)
    return area_under_curve(predict(x)[:, 0], torch.cat([cloud.has_moved for cloud in clouds]))


def probe_kinds(features: Features, train: CloudBank, held_out: CloudBank) -> float:
    """Balanced accuracy: the share of points of each kind that are told right, mean over the held-out kinds.

    The probe regresses on one number for each kind, every kind weighing the same, and says the largest.
    """
    x, clouds = _probe_set(features, train)
    kind = torch.cat([cloud.kind for cloud in clouds])
    one_hot = torch.nn.functional.one_hot(kind).double()
    predict = fit_ridge(x, one_hot, (1 / one_hot.sum(dim=0).clamp(min=1))[kind])
    x, clouds = _probe_set(features, held_out)
    return balanced_accuracy(predict(x).argmax(dim=1), torch.cat([cloud.kind for cloud in clouds]))


def probe_normals(features: Features, train: CloudBank, held_out: CloudBank) -> float:
    """Median angle in degrees between a point's normal and what is told of it without normals as input."""
    without = _without_normals(features)
    x, clouds = _probe_set(without, train)
    normal = torch.cat([cloud.normal for cloud in clouds]).double()
    predict = fit_ridge(x, normal, torch.ones(len(x)).double())
    x, clouds = _probe_set(without, held_out)
    normal = torch.cat([cloud.normal for cloud in clouds]).double()
    cosine = torch.cosine_similarity(predict(x), normal, dim=1).clamp(-1, 1)
    return float(torch.rad2deg(torch.arccos(cosine)).median())


def fit_ridge(
    x: Float[Tensor, "points channels"], y: Float[Tensor, "points targets"], weight: Float[Tensor, " points"]
) -> _Predict:
    """Weighted ridge regression with an intercept, of standardised features."""
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    share = (weight / weight.sum())[:, None]
    x = (x - mean) / spread
    x_mean, y_mean = (share * x).sum(dim=0), (share * y).sum(dim=0)
    x, y = x - x_mean, y - y_mean
    normal_matrix = x.T @ (share * x) + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    coefficients = torch.linalg.solve(normal_matrix, x.T @ (share * y))
    return lambda x: ((x - mean) / spread - x_mean) @ coefficients + y_mean


def area_under_curve(score: Float[Tensor, " points"], is_positive: Bool[Tensor, " points"]) -> float:
    """Chance that a random positive scores above a random negative (ties in order of appearance)."""
    rank = torch.empty(len(score), dtype=torch.float64)
    rank[score.argsort()] = torch.arange(1, len(score) + 1, dtype=torch.float64)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    return float((rank[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def balanced_accuracy(told: Int[Tensor, " points"], kind: Int[Tensor, " points"]) -> float:
    """Mean over the kinds that occur of the share of their points that are told right."""
    return float(torch.stack([(told[kind == one] == one).double().mean() for one in kind.unique()]).mean())


def _without_normals(features: Features) -> Features:
    return lambda cloud: features(replace(cloud, normal=torch.zeros_like(cloud.normal)))


@torch.no_grad()
def _probe_set(
    features: Features, bank: CloudBank, *, only_still: bool = False
) -> tuple[Float[Tensor, "points channels"], list[PointBatch]]:
    """Features of the points of some clouds, evenly spread over the bank, and these clouds."""
    numbers = [n for n in range(len(bank)) if not only_still or bool(bank.batch([n]).is_still)]
    step = max(1, len(numbers) // PROBE_CLOUDS)
    clouds = [bank.batch([number]) for number in numbers[::step][:PROBE_CLOUDS]]
    return torch.cat([features(cloud).double() for cloud in clouds]), clouds
