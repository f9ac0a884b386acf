"""A wall one metre before a camera, and a box before it: depth, cameras and colours worked out by hand."""

import torch

from laq_model.encoder_config import EncoderConfig
from laq_model.geometry_source import SensorSource
from laq_model.scene_observation import observe_scenes
from laq_model.structures import DepthAndCameras

SIZE_PX = 28
WALL_M, BOX_M = 1.0, 0.62
CONFIG = EncoderConfig(geometry="sensor", max_points=4096)


def wall(*, box_column: int | None = None) -> torch.Tensor:
    """Depth [28, 28]; the box covers rows 10 to 15 and six columns."""
    depth = torch.full((SIZE_PX, SIZE_PX), WALL_M)
    if box_column is not None:
        depth[10:16, box_column : box_column + 6] = BOX_M
    return depth


def observe(*depths: torch.Tensor, color=None, camera_x_m=None):
    """The views as one recorded scene; cameras look along +z, their up is −y.

    ``camera_x_m`` moves the camera of each view to the right.
    """
    views = len(depths)
    cameras = torch.eye(3, 4).repeat(1, views, 1, 1)
    if camera_x_m is not None:
        cameras[0, :, 0, 3] = -torch.tensor(camera_x_m)
    recorded = DepthAndCameras(
        depth=torch.stack(depths)[None],
        confidence=(torch.stack(depths)[None] > 0).float(),
        intrinsics=torch.tensor([[25.0, 0, 13.5], [0, 25, 13.5], [0, 0, 1]]).expand(1, views, 3, 3),
        cam_from_world=cameras,
        world_up=torch.tensor([[0.0, -1.0, 0.0]]),
        is_metric=True,
    )
    frames = torch.full((1, views, 3, SIZE_PX, SIZE_PX), 0.5) if color is None else color
    return observe_scenes(SensorSource(), frames, recorded, config=CONFIG)
