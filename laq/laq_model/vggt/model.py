"""The whole network: frames of independent scenes to depth, confidence and pose encodings.

Wang et al., "VGGT: Visual Geometry Grounded Transformer", CVPR 2025. Of the aggregator's layers only those
that a head reads are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError
from .aggregator import Aggregator
from .camera_head import CameraHead
from .config import VGGT_1B, VGGTConfig, parse_config
from .depth_head import FRAMES_PER_CHUNK, DPTHead
from .initial_weights import start_weights

VIEWS_AXES = 4  # views, colour, height, width


@dataclass(frozen=True)
class VGGTOutput:
    """What VGGT says of every view, in the units of its scene; nothing is metric.

    Attributes:
        depth: along the optical axis.
        depth_conf: at least 1, without upper bound; comparable inside a scene only.
        pose_enc: cam_from_world translation, quaternion xyzw of any length, vertical and horizontal field of
            view in radians. The world is close to the first view's camera.
    """

    depth: Float[Tensor, "scenes views height width"]
    depth_conf: Float[Tensor, "scenes views height width"]
    pose_enc: Float[Tensor, "scenes views 9"]


class VGGT(nn.Module):
    """Aggregator, camera head and depth head, under the names of the published weights."""

    def __init__(self, config: VGGTConfig = VGGT_1B):
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.depth_head = DPTHead(config)
        start_weights(self)

    def forward(
        self,
        images: Float[Tensor, "scenes views 3 height width"] | Float[Tensor, "views 3 height width"],
        *,
        max_frames_per_chunk: int = FRAMES_PER_CHUNK,
    ) -> VGGTOutput:
        """Views of one scene see each other, scenes do not; the first view is the scene's reference.

        Args:
            images: RGB in [0, 1], not normalised by mean and deviation; views without a scene axis are one.
            max_frames_per_chunk: frames that the depth head takes at a time; for memory, the numbers stay.

        Raises:
            ConfigError: the height or width is no multiple of the patch size, or the images are not float.
        """
        images = images[None] if images.ndim == VIEWS_AXES else images
        self._check(images)
        last = self.config.depth - 1
        layers = self.aggregator(images, layers={*self.config.dpt_layers, last})
        poses = self.camera_head(layers[last][:, :, 0])
        maps = self.depth_head(
            [layers[layer].flatten(0, 1) for layer in self.config.dpt_layers],
            image_size=(images.shape[-2], images.shape[-1]),
            max_frames_per_chunk=max_frames_per_chunk,
        )
        scenes_and_views = images.shape[:2]
        return VGGTOutput(
            depth=maps.depth.unflatten(0, scenes_and_views),
            depth_conf=maps.confidence.unflatten(0, scenes_and_views),
            pose_enc=poses.encodings[-1],
        )

    def shorten_aggregator(self, dtype: torch.dtype = torch.bfloat16) -> VGGT:
        """Hold the aggregator's matrices in ``dtype``: half the memory, faster products; heads stay."""
        for module in self.aggregator.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(dtype)
        return self

    def official_shapes(self) -> dict[str, torch.Size]:
        """Shape of each tensor under its published key."""
        return {key: value.shape for key, value in self.state_dict().items()}

    def _check(self, images: Tensor) -> None:
        if images.ndim != 5 or images.shape[2] != 3 or not images.is_floating_point():
            raise ConfigError(
                "VGGT takes float images [scenes, views, 3, height, width] in [0, 1], "
                f"got {images.dtype} {list(images.shape)}"
            )
        height, width = images.shape[-2:]
        patch = self.config.patch_size
        if height % patch or width % patch or not height or not width:
            raise ConfigError(
                f"VGGT cuts images into patches of {patch} x {patch} pixels: height {height} and width "
                f"{width} must be multiples of {patch}; resize or crop the frames"
            )


def build_vggt(config: Mapping[str, Any]) -> VGGT:
    """A network of these sizes, with weights to train from; what ``config`` does not name is that of VGGT-1B.

    Built under ``torch.device("meta")`` it takes no memory until weights are loaded.

    Raises:
        ConfigError: an entry is unknown or cannot work.
    """
    return VGGT(parse_config(config))
