"""Depth and cameras predicted by VGGT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..devices import warn_of_slow_bfloat16
from ..errors import ConfigError
from ..geometry.alignment import align_views_to_first
from ..geometry.cameras import decode_pose_encoding, relative_to_first
from ..published_weights import find_vggt_weights, licence_of
from ..structures import DepthAndCameras
from ..vggt import VGGT, build_vggt, load_official_weights
from ..vggt.depth_head import FRAMES_PER_CHUNK
from ..weights import read_weights
from .protocol import GeometryContext, SourceSettings
from .scenes import copy_repeated_views, join_scenes, scenes_per_batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FIRST_GPU_WITH_BFLOAT16 = (8, 0)  # compute capability


class VGGTSource(nn.Module):
    """Depth and cameras in scene units; the first camera is the world and counts as level.

    With ``context="clip"`` the views of a scene see each other and share world and scale. With ``"frame"``
    each frame is a scene of its own: its camera is the world, its mean depth the unit.
    """

    name = "vggt"

    def __init__(
        self,
        network: VGGT,
        *,
        context: GeometryContext = "clip",
        is_aligned: bool = False,
        resolution_px: int = 0,
        max_frames_per_batch: int = 0,
    ):
        """See ``SourceSettings`` for the settings."""
        super().__init__()
        if resolution_px % network.config.patch_size:
            raise ConfigError(
                f"vggt_resolution must be a multiple of {network.config.patch_size}, got {resolution_px}; "
                "VGGT was trained at 518, and 0 takes the frames as they are"
            )
        self.network = network
        self.context = context
        self.is_aligned = is_aligned
        self.resolution_px = resolution_px
        self.max_frames_per_batch = max_frames_per_batch

    def forward(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None = None
    ) -> DepthAndCameras:
        """Run the network; a view whose pixels repeat an earlier view of its scene *is* that view."""
        step = scenes_per_batch(self.max_frames_per_batch, frames.shape[1], frames.device)
        predict = self._predict if self.context == "clip" else self._predict_alone
        # A copy starts at an address of its own, aligned like any other, so that a group of scenes computes
        # what it computes without the others.
        return join_scenes(
            [copy_repeated_views(predict(group.clone()), group) for group in frames.split(step)]
        )

    def _predict(self, frames: Float[Tensor, "scenes views 3 height width"]) -> DepthAndCameras:
        frames = self._resized(frames)
        chunk = min(self.max_frames_per_batch or FRAMES_PER_CHUNK, FRAMES_PER_CHUNK)
        predicted = predict_geometry(self.network, frames, max_frames_per_chunk=chunk)
        return align_views_to_first(frames, predicted) if self.is_aligned else predicted

    def _predict_alone(self, frames: Float[Tensor, "scenes views 3 height width"]) -> DepthAndCameras:
        """Each frame as a scene, in units of its mean depth."""
        views = frames.shape[1]
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

    def _resized(
        self, frames: Float[Tensor, "scenes views 3 height width"]
    ) -> Float[Tensor, "scenes views 3 new_height new_width"]:
        """Frames whose longer side is the resolution; the other keeps the aspect, in whole patches."""
        height, width = frames.shape[-2:]
        if self.resolution_px in (0, max(height, width)):
            return frames
        patch, factor = self.network.config.patch_size, self.resolution_px / max(height, width)
        size = [max(1, round(side * factor / patch)) * patch for side in (height, width)]
        flat = F.interpolate(
            frames.flatten(0, 1), size=size, mode="bicubic", antialias=True, align_corners=False
        )
        return flat.clamp(0, 1).unflatten(0, frames.shape[:2])


def predict_geometry(
    network: VGGT,
    frames: Float[Tensor, "scenes views 3 height width"],
    *,
    max_frames_per_chunk: int = FRAMES_PER_CHUNK,
) -> DepthAndCameras:
    """What the network says of these frames, in scene units; the first camera is the world, and level.

    Args:
        frames: RGB in [0, 1], their sides multiples of the patch size.
        max_frames_per_chunk: frames that the depth head takes at a time.
    """
    height, width = frames.shape[-2:]
    out = network(frames, max_frames_per_chunk=max_frames_per_chunk)
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


def resolve_dtype(name: str, device: torch.device) -> str:
    """What ``auto`` is: bfloat16 on a GPU that computes in it, as VGGT's authors run it; float32 elsewhere.

    Raises:
        ConfigError: another name.
    """
    if name not in ("auto", *DTYPES):
        raise ConfigError(f"vggt_dtype must be auto, {' or '.join(DTYPES)}, got {name!r}")
    if name != "auto":
        return name
    has_bfloat16 = (
        device.type == "cuda" and torch.cuda.get_device_capability(device) >= FIRST_GPU_WITH_BFLOAT16
    )
    return "bfloat16" if has_bfloat16 else "float32"


def build_vggt_source(settings: SourceSettings) -> VGGTSource:
    """Find and open the weights that ``settings`` name, with memory for one network and little more.

    Prints the licence of the weights.

    Raises:
        WeightsError: weights are missing (the message says how to give them), damaged or of another network.
    """
    file = read_weights(find_vggt_weights(settings.model, file=settings.weights))
    with torch.device("meta"):
        network = build_vggt(file.config)  # a file without configuration is the published 1B
    dtype = DTYPES[resolve_dtype(settings.dtype, settings.device)]
    if dtype != torch.float32:
        warn_of_slow_bfloat16(settings.device, instead="--vggt_dtype float32")
        network.shorten_aggregator(dtype)
    network.to_empty(device=settings.device)
    load_official_weights(network, file.tensors)
    if settings.is_compiled:
        network.compile(dynamic=False)  # one graph for each size of input; its tables are constants in it
    print(licence_of(settings.model, network="vggt", file=settings.weights, stated=file.licence))
    return VGGTSource(
        network,
        context=settings.context,
        is_aligned=settings.is_aligned,
        resolution_px=settings.resolution_px,
        max_frames_per_batch=settings.max_frames_per_batch,
    )
