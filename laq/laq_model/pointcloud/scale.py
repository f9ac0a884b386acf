"""One box for all views of a scene: level, centred and scaled by one rule, so that frames can be compared.

The rule: turn the world by the smallest rotation that takes its up to +z; put the origin at the per-axis
median of the kept points of all views; leave metric scenes in metres, and scale others so that
``radius_percentile`` percent of these points lie in the box. Medians and percentiles, unlike extremes, do
not follow a few stray points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import GeometryError

_OPPOSITE = 1e-6  # 1 + cos below which up counts as straight down


@dataclass(frozen=True)
class SceneBox:
    """The levelled world of each scene: x = metres_per_world_unit · rotation (x_world − origin_world).

    Attributes:
        rotation: level-from-world.
        origin_world: the point that becomes the origin, world units.
        metres_per_world_unit: 1 for metric scenes; nominal metres otherwise.
        half_extent_m: the box is [−half_extent_m, half_extent_m] along each axis.
    """

    rotation: Float[Tensor, "scenes 3 3"]
    origin_world: Float[Tensor, "scenes 3"]
    metres_per_world_unit: Float[Tensor, " scenes"]
    half_extent_m: float


def fit_scene_box(
    point_map: Float[Tensor, "scenes views height width 3"],
    *,
    is_kept: Bool[Tensor, "scenes views height width"],
    world_up: Float[Tensor, "scenes 3"],
    is_metric: bool,
    half_extent_m: float,
    radius_percentile: float = 90.0,
) -> SceneBox:
    """The box of each scene, from the kept points of all its views together; no scene influences another.

    The radius of a point is its largest absolute coordinate, because the box is a cube: so the percentile
    is the share of points that lie in it. Level axes keep the world's heading; turning the world about its
    up by quarter turns, moving it or (without metric scale) scaling it turns the box with it.

    Args:
        point_map: world units.
        is_kept: the points that count.
        world_up: unit vector against gravity, world frame.
        is_metric: world units are metres.
        half_extent_m: half the side of the box.
        radius_percentile: percent of the kept points that the box holds, where it sets the scale.

    Raises:
        GeometryError: a scene has no kept point, a kept point is not finite, or most of a scene's points
        coincide.
    """
    points = rearrange(point_map, "scenes views h w c -> scenes c (views h w)")
    kept = rearrange(is_kept, "scenes views h w -> scenes 1 (views h w)")
    count = kept.sum(dim=-1)
    _refuse(
        count.squeeze(-1) == 0,
        "has no point left after filtering; lower confidence_percentile or check its depth",
    )
    is_broken = (kept & ~torch.isfinite(points)).flatten(1).any(dim=1)
    _refuse(is_broken, "has points that are not finite; check its depth and cameras")
    rotation = _level_from_up(world_up)
    level = _rotate_rows(rotation, points)
    centre = _median(level, kept)
    origin_world = _rotate_rows(rotation.mT, centre).squeeze(-1)
    if is_metric:
        scale = torch.ones_like(origin_world[:, 0])
    else:
        radius = (level - centre).abs().amax(dim=1, keepdim=True)
        rank = (count.double() * radius_percentile / 100).ceil().long().clamp(min=1) - 1
        largest = _order_statistic(radius, kept, rank)[:, 0, 0]
        _refuse(largest == 0, f"has {radius_percentile:g} % of its points at one place and so no size")
        scale = half_extent_m / largest
    return SceneBox(rotation, origin_world, scale, half_extent_m)


def to_level(
    points: Float[Tensor, "scenes views height width 3"], box: SceneBox
) -> Float[Tensor, "scenes views height width 3"]:
    """World points in the scene's levelled world: metres (nominal without metric scale), z up."""
    x, y, z = (points - box.origin_world[:, None, None, None]).unbind(-1)
    rows = (row[:, None, None, None] for row in box.rotation.unbind(1))
    level = torch.stack([row[..., 0] * x + row[..., 1] * y + row[..., 2] * z for row in rows], dim=-1)
    return level * box.metres_per_world_unit[:, None, None, None, None]


def _level_from_up(up: Float[Tensor, "scenes 3"]) -> Float[Tensor, "scenes 3 3"]:
    """The smallest rotation that takes ``up`` to +z (Rodrigues): I + [a] + [a]² / (1 + cos), a = up × z.

    Straight down has no smallest one: it turns half about x.
    """
    x, y, z = up.unbind(-1)
    is_down = 1 + z < _OPPOSITE
    k = 1 / torch.where(is_down, torch.ones_like(z), 1 + z)
    rows = [
        torch.stack([1 - k * x * x, -k * x * y, -x], dim=-1),
        torch.stack([-k * x * y, 1 - k * y * y, -y], dim=-1),
        torch.stack([x, y, z], dim=-1),
    ]
    half_turn = torch.diag(up.new_tensor([1.0, -1.0, -1.0]))
    return torch.where(is_down[:, None, None], half_turn, torch.stack(rows, dim=-2))


def _rotate_rows(
    rotation: Float[Tensor, "scenes 3 3"], points: Float[Tensor, "scenes 3 points"]
) -> Float[Tensor, "scenes 3 points"]:
    """R x with coordinates in rows, written out: its rounding does not depend on the batch."""
    x, y, z = (points[:, k, None] for k in range(3))
    return rotation[:, :, 0, None] * x + rotation[:, :, 1, None] * y + rotation[:, :, 2, None] * z


def _order_statistic(
    values: Float[Tensor, "scenes rows points"],
    kept: Bool[Tensor, "scenes 1 points"],
    rank: Int[Tensor, "scenes 1"],
) -> Float[Tensor, "scenes rows 1"]:
    """The kept value with ``rank`` smaller ones."""
    ascending = torch.where(kept, values, math.inf).sort(dim=-1).values
    return ascending.gather(-1, rank[:, None].expand(-1, values.shape[1], -1))


def _median(
    values: Float[Tensor, "scenes rows points"], kept: Bool[Tensor, "scenes 1 points"]
) -> Float[Tensor, "scenes rows 1"]:
    """Halfway between the two middle values of an even count, so that mirroring the scene mirrors it."""
    counted = torch.where(kept, values, torch.nan)
    lower = counted.nanmedian(dim=-1, keepdim=True).values  # of two middle ones, the lower
    upper = -counted.neg_().nanmedian(dim=-1, keepdim=True).values
    return (lower + upper) / 2


def _refuse(is_wrong: Bool[Tensor, " scenes"], reason: str) -> None:
    if bool(is_wrong.any()):
        raise GeometryError(f"scene {int(is_wrong.int().argmax())} of the batch {reason}")
