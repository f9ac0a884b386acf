"""Recorded depth and cameras: RGB-D robots and simulators."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import GeometryError
from ..structures import DepthAndCameras
from .protocol import GeometryContext


class SensorSource:
    """Recorded depth and cameras, in metres.

    With ``context="clip"`` all views share the recorded world. With ``"frame"`` each frame is alone: its
    camera is the world and counts as level, as for predicted geometry.
    """

    name = "sensor"

    def __init__(self, *, context: GeometryContext = "clip"):
        self.context = context

    def __call__(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None
    ) -> DepthAndCameras:
        """Hand over what was recorded, on the frames' device.

        Raises:
            GeometryError: nothing was recorded with these frames.
        """
        if recorded is None:
            raise GeometryError(
                "geometry=sensor needs recorded depth and cameras, and these videos have none; "
                "use geometry=vggt, or a folder in the recorded layout (docs/data-formats.md)"
            )
        recorded = recorded.to(frames.device)
        if self.context == "clip":
            return recorded
        # OpenCV's y points down: a level camera has its up along -y.
        up = torch.tensor([0.0, -1.0, 0.0], device=frames.device)
        return replace(
            recorded,
            cam_from_world=torch.eye(3, 4, device=frames.device).expand_as(recorded.cam_from_world),
            world_up=up.expand_as(recorded.world_up),
        )
