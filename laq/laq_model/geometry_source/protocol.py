"""What every source of depth and cameras is, and what it may be told when it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..structures import DepthAndCameras

GeometryContext = Literal["clip", "frame"]


@runtime_checkable
class GeometrySource(Protocol):
    """Frames (and what was recorded with them) to depth and cameras, scene by scene."""

    name: str

    def __call__(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None
    ) -> DepthAndCameras:
        """Depth and cameras of every view; no scene may influence another.

        The depth maps may have another size than the frames; intrinsics are in pixels of the depth maps.
        """
        ...


@dataclass(frozen=True)
class SourceSettings:
    """What the encoder's settings say of the source; a source uses what it understands.

    Attributes:
        model: name of the weights, for VGGT a Hub repository or ``embedded``.
        weights: a weights file of the user's, or empty.
        dtype: type of the large matrices: ``auto``, ``float32`` or ``bfloat16``.
        is_compiled: whether to compile the network.
        is_aligned: whether to refine predicted views so that what stands still lies in one place.
        context: ``clip`` if the views of a scene share world and scale, ``frame`` if each is alone.
        resolution_px: longer side of what the network sees; 0 leaves the frames as they are.
        max_frames_per_batch: frames that a network takes at a time; 0 is as many as suit the device.
        device: where the source is to run.
    """

    model: str = "facebook/VGGT-1B"
    weights: str = ""
    dtype: str = "auto"
    is_compiled: bool = False
    is_aligned: bool = False
    context: GeometryContext = "clip"
    resolution_px: int = 0
    max_frames_per_batch: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
