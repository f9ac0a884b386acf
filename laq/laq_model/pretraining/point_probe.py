"""What point features know, asked by linear probes on held-out clouds.

Three questions, each with the renderer's answer: which points lie on something that moves (one cloud shows
one moment, so a hand or a handled object must be known by its shape and colour); on what kind of thing a
point lies; and, where the clouds' normals are withheld, which way the surface looks there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .point_clouds import CloudBank, PointBatch

PROBE_CLOUDS = 100  # of each bank, at most
STEEP = 0.7  # largest upward part of the normal of a steep point: 45 degrees
RIDGE = 1e-3  # beside unit-variance features

Features = Callable[[PointBatch], Float[Tensor, "points channels"]]
_Predict = Callable[[Float[Tensor, "points channels"]], Float[Tensor, "points targets"]]


@dataclass(frozen=True)
class ProbeSet:
    """Points of several clouds, what features say of them, and the truth.

    Attributes:
        is_still: the point's camera stood still, so that ``has_moved`` is known.
    """

    feat: Float[Tensor, "points channels"]
    normal: Float[Tensor, "points 3"]
    kind: Int[Tensor, " points"]
    has_moved: Bool[Tensor, " points"]
    is_still: Bool[Tensor, " points"]


@torch.no_grad()
def probe_set(features: Features, bank: CloudBank) -> ProbeSet:
    """Clouds evenly spread over the bank."""
    step = max(1, len(bank) // PROBE_CLOUDS)
    clouds = [bank.batch([number]) for number in range(0, len(bank), step)[:PROBE_CLOUDS]]
    return ProbeSet(
        feat=torch.cat([features(cloud) for cloud in clouds]),
        normal=torch.cat([cloud.normal for cloud in clouds]),
        kind=torch.cat([cloud.kind for cloud in clouds]),
        has_moved=torch.cat([cloud.has_moved for cloud in clouds]),
        is_still=torch.cat([cloud.is_still.expand(len(cloud.kind)) for cloud in clouds]),
    )


def without_normals(features: Features) -> Features:
    """The same features of clouds whose normals are withheld."""
    return lambda cloud: features(replace(cloud, has_normal=torch.zeros_like(cloud.has_normal)))


def probe_moved_points(train: ProbeSet, held_out: ProbeSet) -> float:
    """Area under the ROC curve, on held-out clouds of still cameras, of a ridge probe; chance: 0.5."""
    target = train.has_moved[train.is_still]
    predict = fit_ridge(train.feat[train.is_still], target[:, None].float(), torch.ones(len(target)))
    score = predict(held_out.feat[held_out.is_still])[:, 0]
    return area_under_curve(score, held_out.has_moved[held_out.is_still])


def probe_kinds(train: ProbeSet, held_out: ProbeSet) -> float:
    """Balanced accuracy: the share of points of each kind that are told right, mean over the held-out kinds.

    The probe regresses on one number for each kind, every kind weighing the same, and says the largest.
    """
    one_hot = torch.nn.functional.one_hot(train.kind).float()
    predict = fit_ridge(train.feat, one_hot, (1 / one_hot.sum(dim=0).clamp(min=1))[train.kind])
    return balanced_accuracy(predict(held_out.feat).argmax(dim=1), held_out.kind)


def probe_normals(train: ProbeSet, held_out: ProbeSet) -> float:
    """Median angle in degrees between the normals of steep points and what features ``without_normals`` tell.

    Floors and tables look up and are most of a scene: a probe that says "up" everywhere is right there. So
    level and steep points weigh the same in the fit, and the steep ones are judged.
    """
    is_steep = _is_steep(train.normal)
    share = is_steep.double().mean().clamp(1e-6, 1 - 1e-6)
    predict = fit_ridge(train.feat, train.normal, torch.where(is_steep, 1 / share, 1 / (1 - share)))
    is_steep = _is_steep(held_out.normal)
    told = predict(held_out.feat[is_steep])
    cosine = torch.cosine_similarity(told, held_out.normal[is_steep].double(), dim=1).clamp(-1, 1)
    return float(torch.rad2deg(torch.arccos(cosine)).median())


def fit_ridge(
    x: Float[Tensor, "points channels"], y: Float[Tensor, "points targets"], weight: Float[Tensor, " points"]
) -> _Predict:
    """Weighted ridge regression with an intercept, of standardised features, in float64."""
    x, y, weight = x.double(), y.double(), weight.double()
    mean, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    share = (weight / weight.sum())[:, None]
    x = (x - mean) / spread
    x_mean, y_mean = (share * x).sum(dim=0), (share * y).sum(dim=0)
    x, y = x - x_mean, y - y_mean
    normal_matrix = x.T @ (share * x) + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    coefficients = torch.linalg.solve(normal_matrix, x.T @ (share * y))
    return lambda x: ((x.double() - mean) / spread - x_mean) @ coefficients + y_mean


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


def _is_steep(normal: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
    """Whether a surface leans by more than half a right angle; the clouds' z is up."""
    return normal[:, 2] < STEEP
