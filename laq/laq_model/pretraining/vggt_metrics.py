"""How good predicted depth and cameras are, beside predictors that hardly look.

A prediction has no metric scale, so each scene is first brought to metres by one factor, the median of d / d̂
over the pixels of all its views (the usual scale alignment of relative depth).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.cameras import relative_to_first
from ..geometry.unproject import unproject_depth
from ..structures import DepthAndCameras
from .vggt_losses import STILL_CAMERA_TOLERANCE

MOVED_M = 0.03  # true depth that changes by more, seen by a still camera, belongs to something that moved
NEAR_M = 2.0  # the table, the robot and what lies on it; farther is the room
MIN_PARALLAX_M = 0.01  # below, the direction of a camera's translation means nothing


def align_scale(
    depth: Float[Tensor, "scenes views height width"], recorded: Float[Tensor, "scenes views height width"]
) -> Float[Tensor, " scenes"]:
    """Metres of one predicted unit: the median of d / d̂ over a scene's pixels with depth."""
    ratio = torch.where(recorded > 0, recorded / depth.clamp(min=1e-6), torch.nan)
    return ratio.flatten(1).nanmedian(dim=1).values


def depth_metrics(
    depth_m: Float[Tensor, "scenes views height width"],
    recorded: DepthAndCameras,
) -> dict[str, float]:
    """AbsRel and δ < 1.25 of aligned depth; then pixels through time, for cameras that stand still.

    ``moved_*`` covers pixels whose true depth changes by MOVED_M between the first and a later view,
    ``static_*`` the rest: ``moved_share`` is the slope of predicted change on true change (1: seen in full,
    0: not seen), and ``static_change_cm`` how far a static pixel's depth wanders.
    """
    true, is_valid = recorded.depth, recorded.depth > 0
    relative = (depth_m - true).abs() / true.clamp(min=1e-6)
    ratio = torch.maximum(depth_m / true.clamp(min=1e-6), true / depth_m.clamp(min=1e-6))
    change, true_change = depth_m[:, 1:] - depth_m[:, :1], true[:, 1:] - true[:, :1]
    is_still = still_views(recorded)[:, 1:, None, None]
    both = is_valid[:, 1:] & is_valid[:, :1] & is_still
    moved, static = both & (true_change.abs() > MOVED_M), both & (true_change.abs() <= MOVED_M / 3)
    return {
        "abs_rel": _mean(relative, is_valid),
        "delta_1.25": _mean((ratio < 1.25).float(), is_valid),
        "near_abs_rel": _mean(relative, is_valid & (true < NEAR_M)),
        "moved_abs_rel": _mean(relative[:, 1:], moved),
        "moved_share": float(
            (change * true_change)[moved].sum() / true_change[moved].square().sum().clamp(min=1e-9)
        ),
        "static_change_cm": 100 * _mean(change.abs(), static),
    }


def camera_metrics(
    cam_from_first_m: Float[Tensor, "scenes views 3 4"],
    intrinsics: Float[Tensor, "scenes views 3 3"],
    recorded: DepthAndCameras,
) -> dict[str, float]:
    """Errors of each later view relative to the first, and of the focal length."""
    true = relative_to_first(recorded.cam_from_world)[:, 1:]
    found = cam_from_first_m[:, 1:]
    cosine = ((found[..., :3] * true[..., :3]).sum(dim=(-2, -1)) - 1) / 2
    rotation_deg = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
    offset = (found[..., 3] - true[..., 3]).norm(dim=-1)
    direction_deg = torch.rad2deg(
        torch.arccos(torch.cosine_similarity(found[..., 3], true[..., 3], dim=-1).clamp(-1, 1))
    )
    has_parallax = true[..., 3].norm(dim=-1) > MIN_PARALLAX_M
    focal, true_focal = intrinsics[..., 0, 0], recorded.intrinsics[..., 0, 0]
    everywhere = torch.ones_like(offset, dtype=torch.bool)
    return {
        "rotation_deg": _mean(rotation_deg, everywhere),
        "translation_cm": 100 * _mean(offset, everywhere),
        "translation_direction_deg": _mean(direction_deg, has_parallax),
        "translation_direction_deg_median": _median(direction_deg, has_parallax),
        "still_rotation_deg": _mean(rotation_deg, ~has_parallax),
        "still_translation_cm": 100 * _mean(offset, ~has_parallax),
        "moving_rotation_deg": _mean(rotation_deg, has_parallax),
        "moving_rotation_deg_median": _median(rotation_deg, has_parallax),
        "true_rotation_deg_median": _median(true_rotation_deg(true[..., :3]), has_parallax),
        "moving_translation_cm": 100 * _mean(offset, has_parallax),
        "true_translation_cm": 100 * _mean(true[..., 3].norm(dim=-1), has_parallax),
        "focal_rel": _mean((focal / true_focal - 1).abs(), torch.ones_like(focal, dtype=torch.bool)),
    }


def true_rotation_deg(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, " *batch"]:
    """Angle of each rotation: what a predictor that never turns is off by."""
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2
    return torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))


def world_error_cm(
    depth_m: Float[Tensor, "scenes views height width"],
    cam_from_first_m: Float[Tensor, "scenes views 3 4"],
    intrinsics: Float[Tensor, "scenes views 3 3"],
    recorded: DepthAndCameras,
) -> dict[str, float]:
    """How far near points of later views lie from their true place in the first camera's world.

    ``still_camera`` assumes that every camera stands where the first one stood: the price of ignoring motion.
    """
    true_cam = relative_to_first(recorded.cam_from_world)
    true = unproject_depth(recorded.depth, recorded.intrinsics, true_cam)[:, 1:]
    is_near = (recorded.depth > 0) & (recorded.depth < NEAR_M)
    has_moved = true_cam[:, 1:, :, 3].norm(dim=-1) > MIN_PARALLAX_M
    counted = is_near[:, 1:] & has_moved[..., None, None]
    found = unproject_depth(depth_m, intrinsics, cam_from_first_m)[:, 1:]
    first_camera = cam_from_first_m[:, :1].expand_as(cam_from_first_m)
    stuck = unproject_depth(depth_m, intrinsics, first_camera)[:, 1:]
    return {
        "moving_camera.world_cm": 100 * _mean((found - true).norm(dim=-1), counted),
        "moving_camera.world_cm_still_camera": 100 * _mean((stuck - true).norm(dim=-1), counted),
    }


def still_views(recorded: DepthAndCameras) -> Bool[Tensor, "scenes views"]:
    """Views whose camera stands where the scene's first camera stands."""
    moved = (recorded.cam_from_world - recorded.cam_from_world[:, :1]).abs().amax(dim=(-2, -1))
    return moved < STILL_CAMERA_TOLERANCE


def plane_of_each_view(
    recorded: Float[Tensor, "scenes views height width"],
) -> Float[Tensor, "scenes views height width"]:
    """The best plane through each view's *true* depth: 1/d = a·u + b·v + c by least squares."""
    views, height, width = recorded.shape[1:]
    v, u = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    basis = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
    flat = rearrange(recorded, "b s h w -> (b s) (h w)")
    weight = (flat > 0).float()
    inverse = torch.where(flat > 0, 1 / flat.clamp(min=1e-6), 0.0)
    normal_matrix = torch.einsum("np,pi,pj->nij", weight, basis, basis)
    plane = torch.linalg.solve(normal_matrix, torch.einsum("np,pi->ni", inverse * weight, basis))
    depth = 1 / (plane @ basis.T).clamp(min=1e-2)
    return rearrange(depth, "(b s) (h w) -> b s h w", s=views, h=height)


def mean_of(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average of each figure over batches that have it."""
    names = results[0].keys() if results else []
    return {name: float(torch.tensor([result[name] for result in results]).nanmean()) for name in names}


def _mean(value: Tensor, is_counted: Tensor) -> float:
    """Mean over what counts; NaN where nothing does."""
    return float(value[is_counted].double().mean())


def _median(value: Tensor, is_counted: Tensor) -> float:
    """Median over what counts (the lower of two middles); NaN where nothing does."""
    counted = value[is_counted]
    return float(counted.median()) if len(counted) else float("nan")
