"""Masked self-distillation: from a part of a cloud, tell what the network's average says of the whole.

Source: Concerto (Zhang et al. 2025, arXiv 2510.23607) takes it from Sonata (Wu et al. 2025, arXiv
2503.16429): a teacher of moving average sees everything, its points are assigned to prototypes so that all
prototypes are used alike (Sinkhorn-Knopp, as in SwAV, Caron et al. 2020, arXiv 2006.09882), and the student
must name the same ones for points that are hidden from it. Departure: both see the same crop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

STUDENT_TEMPERATURE = 0.1
TEACHER_TEMPERATURE = 0.05
BALANCING_ROUNDS = 3


class Prototypes(nn.Module):
    """Cosines of each point with learned directions."""

    def __init__(self, channels: int, hidden: int = 128, width: int = 64, count: int = 256):
        super().__init__()
        self.project = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.directions = nn.Parameter(torch.randn(count, width))

    def forward(self, feat: Float[Tensor, "points channels"]) -> Float[Tensor, "points prototypes"]:
        """Between −1 and 1."""
        return F.normalize(self.project(feat), dim=1) @ F.normalize(self.directions, dim=1).T


def balanced_assignment(
    cosine: Float[Tensor, "points prototypes"],
) -> Float[Tensor, "points prototypes"]:
    """Soft assignment, each point's summing to 1, in which every prototype has about the same share."""
    share = ((cosine - cosine.max()) / TEACHER_TEMPERATURE).exp()
    for _ in range(BALANCING_ROUNDS):
        share = share / share.sum(dim=0, keepdim=True).clamp(min=1e-12)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return share


def distillation_loss(
    cosine: Float[Tensor, "points prototypes"],
    assignment: Float[Tensor, "points prototypes"],
    is_hidden: Bool[Tensor, " points"],
) -> Float[Tensor, ""]:
    """Mean cross entropy over hidden points; 0 without any."""
    told = F.log_softmax(cosine / STUDENT_TEMPERATURE, dim=1)
    return -((assignment * told).sum(dim=1) * is_hidden).sum() / is_hidden.sum().clamp(min=1)
