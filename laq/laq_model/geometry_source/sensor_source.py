"""Recorded depth and cameras: RGB-D robots and simulators."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..errors import GeometryError
from ..structures import DepthAndCameras


class SensorSource:
    """Recorded depth and cameras, in metres."""

    name = "sensor"

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
        device = frames.device
        return DepthAndCameras(
            depth=recorded.depth.to(device),
            confidence=recorded.confidence.to(device),
            intrinsics=recorded.intrinsics.to(device),
            cam_from_world=recorded.cam_from_world.to(device),
            world_up=recorded.world_up.to(device),
            is_metric=recorded.is_metric,
        )
