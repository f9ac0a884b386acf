"""What the tiny VGGT is trained to say: depth it is sure of, cameras, and points that agree.

Source: VGGT (Wang et al. 2025, arXiv 2503.11651), §3.3 for the terms and §3.4 for the scale of a scene.
Departures, each for a network that must learn in an hour on a CPU:

- The point map is not a head of its own: the points are those of the predicted depth through the predicted
  cameras, so that depth and cameras are asked to agree; this keeps a static thing at one place in both frames
  of a pair.
- Confidence learns from the error without weighing it: else the network soon gives up on the hand, which is
  hard, for the table, which is easy.
- Matching between views is taught by a small extra output, as by VGGT's tracking head: for each patch of a
  later view, where the first camera sees the same static point; and by telling attention where to look
  (``matching``). Poses alone do not teach it in an hour.
- Views of a camera that stands still are also compared pixel by pixel: the predicted change of depth must be
  the true change. A moving hand is a change, a wavering background is none. What moved is a hundredth of the
  pixels and counts as much as all that stood still.
- A thing counts by the root of its area in the picture: by area the hand is a hundredth of the loss, and
  the network leaves it where the table is.
- Differences of depth and points are absolute (L1) instead of Euclidean, and relative to the true depth: the
  room behind the table, four times as far as the hand, would otherwise drown it. For the same reason the
  unit of a scene is the harmonic instead of the arithmetic mean of its points' distances.
- Differences of poses are Huber's, as in the paper, with a bend above the usual motion between frames: by
  absolute differences the best answer is that no camera moves, until most of the motion is understood.
- A pixel without depth is beyond the renderer's reach and counts as that far away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.cameras import decode_pose_encoding, encode_pose, relative_to_first
from ..geometry.unproject import unproject_depth
from ..structures import DepthAndCameras
from .matching import match_loss

MIN_FIELD_OF_VIEW_RAD = 0.1  # below, the focal length of an untrained camera head explodes
CONFIDENCE_ALPHA = 0.2  # the reward for confidence, times its logarithm; VGGT's own value
FAR_M = 8.0  # how far a pixel without depth is taken to be: the renderer's reach
# Of translation, quaternion xyzw, field of view. Between frames a camera moves by a few hundredths of a
# scene unit and turns by a degree, a hundredth in a quaternion's numbers; the view angle is off by a tenth.
POSE_WEIGHTS = (10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0, 0.5, 0.5)
POSE_BEND = 0.05  # where a difference of poses stops to count by its square
STILL_CAMERA_TOLERANCE = 1e-4  # metres and rotation matrix entries
MOVED_SHARE = 0.02  # of its depth, by which a pixel changes between views where something moved


@dataclass(frozen=True)
class SceneTarget:
    """One scene in the first camera's frame, divided by the harmonic mean distance of its points.

    Attributes:
        depth: scene units, everywhere positive.
        pose_enc: of each view relative to the first, with translation in scene units.
        point_map: points in the first camera's frame, scene units.
        ego_flow: from a pixel to where the first camera sees its point, if it is static; in image sizes.
        is_still: the view's camera stands where the first camera stands.
        scale_m: metres of one scene unit.
    """

    depth: Float[Tensor, "scenes views height width"]
    pose_enc: Float[Tensor, "scenes views 9"]
    point_map: Float[Tensor, "scenes views height width 3"]
    ego_flow: Float[Tensor, "scenes views height width 2"]
    is_still: Bool[Tensor, "scenes views"]
    scale_m: Float[Tensor, " scenes"]


@dataclass(frozen=True)
class VGGTLossWeights:
    """What each term counts."""

    depth: float = 4.0
    """Relative error of the depth."""
    depth_gradient: float = 4.0
    """Differences of that error between neighbouring pixels: edges."""
    depth_change: float = 4.0
    """Differences between views of a camera that stands still: motion."""
    confidence: float = 1.0
    """Being sure where the depth is right."""
    camera: float = 5.0
    """The pose encoding; VGGT's own value."""
    flow: float = 5.0
    """Where the first camera sees a patch of a later view."""
    match: float = 0.3
    """What the guided attention head looks at."""
    point: float = 1.0
    """Points through predicted depth and predicted cameras."""


def scene_target(recorded: DepthAndCameras) -> SceneTarget:
    """What VGGT should answer for a scene with known geometry."""
    depth = torch.where(recorded.depth > 0, recorded.depth, FAR_M)
    cam_from_first = relative_to_first(recorded.cam_from_world)
    point_map = unproject_depth(depth, recorded.intrinsics, cam_from_first)
    scale_m = 1 / (1 / point_map.norm(dim=-1)).mean(dim=(1, 2, 3))
    translation = cam_from_first[..., 3:] / scale_m[:, None, None, None]
    height, width = recorded.depth.shape[-2:]
    moved = (recorded.cam_from_world - recorded.cam_from_world[:, :1]).abs().amax(dim=(-2, -1))
    return SceneTarget(
        depth=depth / scale_m[:, None, None, None],
        pose_enc=encode_pose(
            torch.cat([cam_from_first[..., :3], translation], dim=-1),
            recorded.intrinsics,
            height=height,
            width=width,
        ),
        point_map=point_map / scale_m[:, None, None, None, None],
        ego_flow=ego_flow(point_map, recorded.intrinsics[:, 0]),
        is_still=moved < STILL_CAMERA_TOLERANCE,
        scale_m=scale_m,
    )


def ego_flow(
    point_map: Float[Tensor, "scenes views height width 3"], intrinsics: Float[Tensor, "scenes 3 3"]
) -> Float[Tensor, "scenes views height width 2"]:
    """From each pixel to where the first camera, which is the world, sees its point; in image sizes.

    At most 1 either way: a point may leave the image or lie behind the first camera.
    """
    height, width = point_map.shape[2:4]
    ray = point_map / point_map[..., 2:].clamp(min=1e-3)
    seen = torch.einsum("bshwj,bij->bshwi", ray, intrinsics)[..., :2]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    own = torch.stack([u, v], dim=-1).to(seen)
    return ((seen - own) / seen.new_tensor([width, height])).clamp(-1, 1)


def vggt_loss(
    depth: Float[Tensor, "scenes views height width"],
    depth_conf: Float[Tensor, "scenes views height width"],
    pose_enc: Float[Tensor, "scenes views 9"],
    patch_flow: Float[Tensor, "scenes views rows columns 2"],
    log_attention: Float[Tensor, "scenes views patches patches_of_first"],
    *,
    target: SceneTarget,
    pixel_weight: Float[Tensor, "scenes views height width"],
    weights: VGGTLossWeights,
) -> dict[str, Float[Tensor, ""]]:
    """Every term, unweighted, and their weighted sum under ``total``."""
    error = (depth - target.depth) / target.depth
    terms = {
        "depth": (error.abs() * pixel_weight).mean(),
        "depth_gradient": depth_gradient_loss(error),
        "depth_change": depth_change_loss(error, target.depth, pixel_weight, target.is_still),
        "confidence": confidence_loss(error.detach(), depth_conf),
        "camera": camera_loss(pose_enc, target.pose_enc),
        "flow": flow_loss(patch_flow, target.ego_flow),
        "match": match_loss(log_attention, target.ego_flow, grid=(patch_flow.shape[2], patch_flow.shape[3])),
        "point": point_loss(depth, pose_enc, target=target),
    }
    total = sum((getattr(weights, name) * term for name, term in terms.items()), torch.zeros(()))
    return {**terms, "total": total}


def depth_gradient_loss(error: Float[Tensor, "scenes views height width"]) -> Float[Tensor, ""]:
    """Mean of |∂x e| plus mean of |∂y e|."""
    across = (error[..., :, 1:] - error[..., :, :-1]).abs()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs()
    return across.mean() + down.mean()


def confidence_loss(
    error: Float[Tensor, "scenes views height width"], depth_conf: Float[Tensor, "scenes views height width"]
) -> Float[Tensor, ""]:
    """Mean of c·|e| − α·log c: being sure costs where it is wrong. Least at c = α / |e|."""
    return (depth_conf * error.abs() - CONFIDENCE_ALPHA * depth_conf.log()).mean()


def depth_change_loss(
    error: Float[Tensor, "scenes views height width"],
    depth: Float[Tensor, "scenes views height width"],
    pixel_weight: Float[Tensor, "scenes views height width"],
    is_still: Bool[Tensor, "scenes views"],
) -> Float[Tensor, ""]:
    """Weighted mean of |e_s − e_0| over later views whose camera stands where the first one stood; else 0.

    Pixels whose true ``depth`` changes by MOVED_SHARE have a mean, all others another; the two add up.
    """
    change = (error[:, 1:] - error[:, :1]).abs()
    has_moved = (depth[:, 1:] - depth[:, :1]).abs() > MOVED_SHARE * depth[:, :1]
    counted = is_still[:, 1:, None, None].expand_as(change)

    def mean(is_counted: Bool[Tensor, "scenes later height width"]) -> Float[Tensor, ""]:
        weight = pixel_weight[:, 1:] * is_counted
        return (change * weight).sum() / weight.sum().clamp(min=1)

    return mean(counted & has_moved) + mean(counted & ~has_moved)


def camera_loss(
    pose_enc: Float[Tensor, "scenes views 9"], true_pose_enc: Float[Tensor, "scenes views 9"]
) -> Float[Tensor, ""]:
    """Huber differences of the nine numbers, weighted and summed; mean over views."""
    weight = torch.tensor(POSE_WEIGHTS, device=pose_enc.device)
    difference = F.smooth_l1_loss(pose_enc, true_pose_enc, reduction="none", beta=POSE_BEND)
    return (difference * weight).sum(dim=-1).mean()


def flow_loss(
    patch_flow: Float[Tensor, "scenes views rows columns 2"],
    flow: Float[Tensor, "scenes views height width 2"],
) -> Float[Tensor, ""]:
    """Mean absolute difference at the patches' middle pixels, over later views; 0 without any."""
    rows, columns = patch_flow.shape[2:4]
    height, width = flow.shape[2:4]
    patch_height, patch_width = height // rows, width // columns
    middle = flow[:, 1:, patch_height // 2 :: patch_height, patch_width // 2 :: patch_width]
    difference = (patch_flow[:, 1:] - middle).abs()
    return difference.sum() / max(1, difference.numel())


def point_loss(
    depth: Float[Tensor, "scenes views height width"],
    pose_enc: Float[Tensor, "scenes views 9"],
    *,
    target: SceneTarget,
) -> Float[Tensor, ""]:
    """Mean absolute difference of the coordinates of predicted and true points, over the true depth."""
    height, width = depth.shape[-2:]
    pose = torch.cat([pose_enc[..., :7], pose_enc[..., 7:].clamp(min=MIN_FIELD_OF_VIEW_RAD)], dim=-1)
    cam_from_first, intrinsics = decode_pose_encoding(pose, height=height, width=width)
    point_map = unproject_depth(depth, intrinsics, cam_from_first)
    return ((point_map - target.point_map).abs().mean(dim=-1) / target.depth).mean()
