"""Which pixels may become points: those with depth, sure enough, and not on the edge of something."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ConfigError


def keep_points(
    depth: Float[Tensor, "*batch height width"],
    confidence: Float[Tensor, "*batch height width"],
    *,
    confidence_percentile: float,
    depth_edge_ratio: float,
) -> Bool[Tensor, "*batch height width"]:
    """Pixels with finite, positive depth, with enough confidence, and at no depth discontinuity.

    Args:
        depth: along the optical axis, any unit.
        confidence: larger is surer; compared inside one view only. NaN counts as no depth.
        confidence_percentile: at most this many percent of a view's pixels with depth are dropped, the
            least sure. Pixels as sure as the first one kept stay too: 0, or confidence that is everywhere
            equal, drops none.
        depth_edge_ratio: largest |d − d′| / min(d, d′) to the four neighbours with depth; pixels on both
            sides of an edge are dropped, since there the depth of near and far is mixed.

    Raises:
        ConfigError: the percentile is outside [0, 100), or the ratio is not positive.
    """
    if not 0 <= confidence_percentile < 100:
        raise ConfigError(f"confidence_percentile must be from 0 to below 100, got {confidence_percentile}")
    if not depth_edge_ratio > 0:
        raise ConfigError(f"depth_edge_ratio must be positive, got {depth_edge_ratio}")
    has_depth = torch.isfinite(depth) & (depth > 0) & ~torch.isnan(confidence)
    is_sure = _is_sure(confidence, has_depth, percentile=confidence_percentile)
    return has_depth & is_sure & ~_is_at_edge(depth, has_depth, ratio=depth_edge_ratio)


def _is_sure(
    confidence: Float[Tensor, "*batch height width"],
    has_depth: Bool[Tensor, "*batch height width"],
    *,
    percentile: float,
) -> Bool[Tensor, "*batch height width"]:
    """At or above the value that floor(count · percentile / 100) of the view's pixels with depth precede."""
    ascending = torch.where(has_depth, confidence, math.inf).flatten(-2).sort(dim=-1).values
    count = has_depth.flatten(-2).sum(dim=-1, keepdim=True)
    number = (count.double() * percentile / 100).floor().long()
    return confidence >= ascending.gather(-1, number)[..., None]


def _is_at_edge(
    depth: Float[Tensor, "*batch height width"],
    has_depth: Bool[Tensor, "*batch height width"],
    *,
    ratio: float,
) -> Bool[Tensor, "*batch height width"]:
    is_edge = torch.zeros_like(has_depth)
    for axis in (-2, -1):
        size = depth.shape[axis]
        first, second = depth.narrow(axis, 0, size - 1), depth.narrow(axis, 1, size - 1)
        both = has_depth.narrow(axis, 0, size - 1) & has_depth.narrow(axis, 1, size - 1)
        jumps = both & ((first - second).abs() > ratio * torch.minimum(first, second))
        is_edge.narrow(axis, 0, size - 1).logical_or_(jumps)
        is_edge.narrow(axis, 1, size - 1).logical_or_(jumps)
    return is_edge
