"""Where depth and cameras come from. Every source gives ``DepthAndCameras``; the encoder knows no other name.

A source of your own is one class with ``name`` and ``__call__`` (see ``GeometrySource``).
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from .errors import GeometryError
from .geometry.cameras import decode_pose_encoding, relative_to_first
from .structures import DepthAndCameras
from .vggt import VGGT

GeometryContext = Literal["clip", "frame"]


@runtime_checkable
class GeometrySource(Protocol):
    """Frames (and what was recorded with them) to depth and cameras, scene by scene."""

    name: str

    def __call__(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None
    ) -> DepthAndCameras:
        """Depth and cameras of every view; no scene may influence another."""
        ...


class VGGTSource(nn.Module):
    """Depth and cameras predicted by VGGT, in scene units; the first camera is the world and counts as level.

    With ``context="clip"`` the views of a scene see each other and share world and scale. With ``"frame"`` each
    frame is a scene of its own: its camera is the world, its mean depth the unit.
    """

    name = "vggt"

    def __init__(self, network: VGGT, *, context: GeometryContext = "clip"):
        super().__init__()
        self.network = network
        self.context = context

    def forward(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None = None
    ) -> DepthAndCameras:
        """Run the network; a view whose pixels repeat an earlier view of its scene *is* that view."""
        views = frames.shape[1]
        if self.context == "frame":
            single = self._predict(rearrange(frames, "b s c h w -> (b s) 1 c h w"))
            unit = single.depth.mean(dim=(1, 2, 3), keepdim=True)
            return DepthAndCameras(
                depth=rearrange(single.depth / unit, "(b s) 1 h w -> b s h w", s=views),
                confidence=rearrange(single.confidence, "(b s) 1 h w -> b s h w", s=views),
                intrinsics=rearrange(single.intrinsics, "(b s) 1 i j -> b s i j", s=views),
                cam_from_world=rearrange(single.cam_from_world, "(b s) 1 i j -> b s i j", s=views),
                world_up=single.world_up[::views],
                is_metric=False,
            )
        return _copy_repeated_views(self._predict(frames), first_equal_view(frames))

    def _predict(self, frames: Float[Tensor, "scenes views 3 height width"]) -> DepthAndCameras:
        height, width = frames.shape[-2:]
        out = self.network(frames)
        cam_from_world, intrinsics = decode_pose_encoding(out.pose_enc.float(), height=height, width=width)
        # OpenCV's y points down: a level first camera has its up along -y.
        up = torch.tensor([0.0, -1.0, 0.0], device=frames.device).expand(frames.shape[0], 3)
        return DepthAndCameras(
            depth=out.depth.float(),
            confidence=out.depth_conf.float(),
            intrinsics=intrinsics,
            cam_from_world=relative_to_first(cam_from_world),
            world_up=up,
            is_metric=False,
        )


class SensorSource:
    """Recorded depth and cameras, in metres: RGB-D robots and simulators."""

    name = "sensor"

    def __call__(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None
    ) -> DepthAndCameras:
        """Hand over what was recorded, on the frames' device."""
        if recorded is None:
            raise GeometryError(
                "geometry=sensor needs recorded depth and cameras, and these videos have none; "
                "use geometry=vggt, or a folder in the recorded layout (docs/data-formats.md)"
            )
        device = frames.device
        return DepthAndCameras(
            depth=recorded.depth.to(device),
            confidence=recorded.confidence.to(device),
            intrinsics=recorded.intrinsics.to(device),
            cam_from_world=recorded.cam_from_world.to(device),
            world_up=recorded.world_up.to(device),
            is_metric=recorded.is_metric,
        )


def first_equal_view(frames: Float[Tensor, "scenes views 3 height width"]) -> Int[Tensor, "scenes views"]:
    """For each view, the number of the first view of its scene with exactly the same pixels (often itself)."""
    flat = frames.flatten(2)
    is_equal = torch.stack(
        [(flat == flat[:, view : view + 1]).all(-1) for view in range(flat.shape[1])], dim=-1
    )
    return is_equal.int().argmax(dim=-1)


def _copy_repeated_views(
    geometry: DepthAndCameras, source_view: Int[Tensor, "scenes views"]
) -> DepthAndCameras:
    scene = torch.arange(len(source_view), device=source_view.device)[:, None]
    return DepthAndCameras(
        depth=geometry.depth[scene, source_view],
        confidence=geometry.confidence[scene, source_view],
        intrinsics=geometry.intrinsics[scene, source_view],
        cam_from_world=geometry.cam_from_world[scene, source_view],
        world_up=geometry.world_up,
        is_metric=geometry.is_metric,
    )
