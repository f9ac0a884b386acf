"""What all sources share: scenes in groups that fit, and views that repeat another view."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import GeometryError
from ..structures import DepthAndCameras

FRAMES_PER_GPU_BATCH = 16  # of 224 pixels: about 1 GB beside the weights of VGGT-1B


def scenes_per_batch(max_frames: int, views: int, device: torch.device) -> int:
    """How many scenes the networks take at a time: what ``max_frames`` holds, at least one.

    ``max_frames=0`` asks for what suits the device. On a CPU that is one scene: more would not be faster, and
    scene by scene a result is the same to the last bit in any batch.
    """
    budget = max_frames or (1 if device.type == "cpu" else FRAMES_PER_GPU_BATCH)
    return max(1, budget // views)


def scenes_of(geometry: DepthAndCameras, group: slice) -> DepthAndCameras:
    """Some of the scenes."""
    return DepthAndCameras(
        depth=geometry.depth[group],
        confidence=geometry.confidence[group],
        intrinsics=geometry.intrinsics[group],
        cam_from_world=geometry.cam_from_world[group],
        world_up=geometry.world_up[group],
        is_metric=geometry.is_metric,
    )


def join_scenes(groups: list[DepthAndCameras]) -> DepthAndCameras:
    """Groups of scenes as one; its world units are metres if those of all are."""
    return DepthAndCameras(
        depth=torch.cat([group.depth for group in groups]),
        confidence=torch.cat([group.confidence for group in groups]),
        intrinsics=torch.cat([group.intrinsics for group in groups]),
        cam_from_world=torch.cat([group.cam_from_world for group in groups]),
        world_up=torch.cat([group.world_up for group in groups]),
        is_metric=all(group.is_metric for group in groups),
    )


def first_equal_view(frames: Float[Tensor, "scenes views 3 height width"]) -> Int[Tensor, "scenes views"]:
    """For each view, the number of the first view of its scene with exactly its pixels (often its own)."""
    flat = frames.flatten(2)
    is_equal = torch.stack(
        [(flat == flat[:, view : view + 1]).all(-1) for view in range(flat.shape[1])], dim=-1
    )
    return is_equal.int().argmax(dim=-1)


def copy_repeated_views(
    geometry: DepthAndCameras, frames: Float[Tensor, "scenes views 3 height width"]
) -> DepthAndCameras:
    """Give a view whose pixels repeat an earlier view of its scene that view's geometry, to the last bit."""
    source_view = first_equal_view(frames)
    scene = torch.arange(len(source_view), device=source_view.device)[:, None]
    return DepthAndCameras(
        depth=geometry.depth[scene, source_view],
        confidence=geometry.confidence[scene, source_view],
        intrinsics=geometry.intrinsics[scene, source_view],
        cam_from_world=geometry.cam_from_world[scene, source_view],
        world_up=geometry.world_up,
        is_metric=geometry.is_metric,
    )


def check_geometry(
    geometry: DepthAndCameras, frames: Float[Tensor, "scenes views 3 height width"], *, source: str
) -> None:
    """Refuse what cannot be the geometry of these frames, before it becomes points.

    Raises:
        GeometryError: a shape does not fit, or a number is not finite, or a depth is negative.
    """
    views, size = tuple(frames.shape[:2]), tuple(geometry.depth.shape[-2:])
    expected = {
        "depth": (*views, *size),
        "confidence": (*views, *size),
        "intrinsics": (*views, 3, 3),
        "cam_from_world": (*views, 3, 4),
        "world_up": (views[0], 3),
    }
    for name, shape in expected.items():
        value = getattr(geometry, name)
        if tuple(value.shape) != shape:
            raise GeometryError(
                f"geometry={source} gave {name} {list(value.shape)} for frames {list(frames.shape)}, "
                f"expected {list(shape)}"
            )
    # One question to the device for all of them.
    is_sound = torch.stack(
        [*(getattr(geometry, name).isfinite().all() for name in expected), geometry.depth.min() >= 0]
    )
    if not bool(is_sound.all()):
        names = [*(f"{name} that is not finite" for name in expected), "negative depth"]
        wrong = [name for name, sound in zip(names, is_sound.tolist(), strict=True) if not sound]
        raise GeometryError(f"geometry={source} gave {', '.join(wrong)}; 0 means no depth")
