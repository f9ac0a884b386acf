"""What a small VGGT knows of scenes it never saw: depth and cameras against the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.alignment import align_views_to_first
from ..geometry_source import join_scenes
from ..geometry_source.vggt_source import predict_geometry
from ..vggt import VGGT
from .training_scenes import TrainingScenes
from .vggt_losses import scene_target
from .vggt_metrics import (
    align_scale,
    camera_metrics,
    depth_metrics,
    plane_of_each_view,
    world_error_cm,
)


@torch.no_grad()
def evaluate(
    network: VGGT,
    scenes: TrainingScenes,
    *,
    num_clips: int,
    num_views: int = 2,
    is_aligned: bool = False,
    batch_clips: int = 16,
) -> dict[str, float]:
    """Figures on clips never trained on, beside the plane predictor's, for the first views of each.

    Args:
        is_aligned: after ``align_views_to_first``, as the preset uses the network.
    """
    device = next(network.parameters()).device
    predictions, truths = [], []
    for clips, views in held_out_views(
        scenes, num_clips=num_clips, num_views=num_views, batch_clips=batch_clips
    ):
        batch = scenes.read(clips, views)
        predicted = predict_geometry(network, batch.frames.to(device)).to("cpu")
        predictions.append(align_views_to_first(batch.frames, predicted) if is_aligned else predicted)
        truths.append(batch.recorded)
    predicted, recorded = join_scenes(predictions), join_scenes(truths)
    metres = align_scale(predicted.depth, recorded.depth)
    depth_m = predicted.depth * metres[:, None, None, None]
    cam = predicted.cam_from_world
    cam = torch.cat([cam[..., :3], cam[..., 3:] * metres[:, None, None, None]], dim=-1)
    plane = depth_metrics(plane_of_each_view(recorded.depth), recorded)
    return (
        depth_metrics(depth_m, recorded)
        | camera_metrics(cam, predicted.intrinsics, recorded)
        | world_error_cm(depth_m, cam, predicted.intrinsics, recorded)
        | {f"plane.{name}": plane[name] for name in ("abs_rel", "delta_1.25", "near_abs_rel")}
    )


def held_out_views(
    scenes: TrainingScenes, *, num_clips: int, num_views: int, batch_clips: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clip numbers spread over the held-out set, and their first views, in batches."""
    clips = np.unique(np.linspace(0, len(scenes) - 1, min(num_clips, len(scenes))).astype(int))
    for start in range(0, len(clips), batch_clips):
        part = clips[start : start + batch_clips]
        yield part, np.tile(np.arange(num_views), (len(part), 1))


def mean_depth_map(scenes: TrainingScenes, *, num_clips: int, seed: int) -> Float[Tensor, "height width"]:
    """The average of training depth maps in scene units: a predictor that never looks."""
    clips = np.random.default_rng(seed).permutation(len(scenes))[:num_clips]
    target = scene_target(scenes.read(clips, np.tile(np.arange(2), (len(clips), 1))).recorded)
    return target.depth.mean(dim=(0, 1))
