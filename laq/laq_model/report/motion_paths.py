"""The way of what moved, drawn over a clip: in pixels of its frames, as the future frame's camera sees it.

One camera for the whole way, so that a moving camera's own motion is not drawn; the future one, because a
clip rests on its last frame.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..feature_store import PairName
from ..geometry.cameras import crop_and_resize_intrinsics
from ..geometry.unproject import project_points
from ..known_actions.actions import STILL_VIEW, episode_and_view
from ..scene_observation import SceneObservation
from ..video.recorded_geometry import (
    RecordedFolder,
    has_geometry,
    has_labels,
    read_cameras,
    read_labels,
)

FUTURE = 1


def hand_path(recorded: RecordedFolder, name: PairName, *, side_px: int) -> Float[Tensor, "places 2"] | None:
    """Where the hand is in each frame of the pair, by the recorded labels and cameras.

    None where they were not recorded, where the scene is frozen, and where the hand comes behind the camera.

    Args:
        side_px: of the square frames that it is drawn on.

    Raises:
        DatasetError: labels or cameras are damaged.
    """
    episode, view = episode_and_view(name.video)
    folder = recorded.data_dir
    if view == STILL_VIEW or not has_labels(folder) or not has_geometry(folder, view, episode):
        return None
    camera = read_cameras(folder, view, episode)
    hand_m = read_labels(folder, episode).ee_pos_m[name.current_index : name.future_index + 1]
    side = min(recorded.height, recorded.width)
    intrinsics = crop_and_resize_intrinsics(
        torch.from_numpy(camera.intrinsics),
        crop_left_px=(recorded.width - side) // 2,
        crop_top_px=(recorded.height - side) // 2,
        scale_x=side_px / side,
        scale_y=side_px / side,
    )
    cam_from_world = torch.from_numpy(camera.cam_from_world[name.future_index, :3])
    return _seen(torch.from_numpy(hand_m), intrinsics, cam_from_world)


def mass_path(
    scene: SceneObservation,
    centres: Float[Tensor, "2 3"],
    *,
    half_extent_m: float,
    side_px: int,
) -> Float[Tensor, "2 2"] | None:
    """From the centre of what is gone to the centre of what is new, by the scene's own cameras.

    None where too little moved (NaN), or where a centre comes behind the camera.

    Args:
        scene: one scene of two views.
        centres: of ``action_model.motion.mass_centres``, in half sides of the box.
        half_extent_m: half the side of the box.
        side_px: of the square frames that it is drawn on.
    """
    if bool(centres.isnan().any()):
        return None
    geometry = scene.geometry
    height, width = geometry.depth.shape[-2:]
    intrinsics = crop_and_resize_intrinsics(
        geometry.intrinsics[0, FUTURE],
        crop_left_px=0,
        crop_top_px=0,
        scale_x=side_px / width,
        scale_y=side_px / height,
    )
    return _seen(
        centres.to(intrinsics.device) * half_extent_m, intrinsics, geometry.cam_from_world[0, FUTURE]
    )


def _seen(
    points: Float[Tensor, "places 3"],
    intrinsics: Float[Tensor, "3 3"],
    cam_from_world: Float[Tensor, "3 4"],
) -> Float[Tensor, "places 2"] | None:
    pixel, depth = project_points(points, intrinsics.to(points.dtype), cam_from_world.to(points.dtype))
    return pixel.float().cpu() if bool((depth > 0).all()) else None
