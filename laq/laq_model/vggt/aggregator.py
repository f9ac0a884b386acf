"""Aggregator: frames of a scene to tokens that know of one another.

Blocks alternate between attention inside a frame and attention over all frames of a scene. In each frame a
camera token and registers stand before the patches; the first frame has its own variant of both, which is
all that marks it as the scene's reference. A layer's output joins the stream after its frame block and
after its global block. Source: Wang et al., VGGT (2025), §3.2.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .block import Block
from .config import VGGTConfig
from .kept_tensors import kept_by_arguments
from .precision import stream_dtype
from .rope import frame_rotation
from .vit import VisionTransformer

NORM_EPS = 1e-5
START_LAYER_SCALE = 0.01
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]; part of the network, never of a loader
IMAGENET_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Patch embedding, then pairs of a frame block and a global block."""

    def __init__(self, config: VGGTConfig):
        super().__init__()
        channels = config.embed_dim
        self.patch_size = config.patch_size
        self.num_special_tokens = 1 + config.num_register_tokens
        self.head_channels = channels // config.num_heads
        self.rope_freq = float(config.rope_freq)
        self.patch_embed = VisionTransformer(config)
        # Axis 1: the variant of a scene's first frame, and that of all others.
        self.camera_token = nn.Parameter(torch.empty(1, 2, 1, channels))
        self.register_token = nn.Parameter(torch.empty(1, 2, config.num_register_tokens, channels))
        self.frame_blocks = _blocks(config)
        self.global_blocks = _blocks(config)

    def forward(
        self, images: Float[Tensor, "scenes views 3 height width"], *, layers: Collection[int]
    ) -> dict[int, Float[Tensor, "scenes views tokens two_channels"]]:
        """Outputs of the layers asked for, by number from 0; special tokens stand before the patches.

        No scene influences another. Layers after the last one asked for are not computed.
        """
        scenes, views, _, height, width = images.shape
        tokens = self.embed(images)
        frame_table = frame_rotation(
            (height // self.patch_size, width // self.patch_size),
            num_special_tokens=self.num_special_tokens,
            head_channels=self.head_channels,
            base=self.rope_freq,
            device=images.device,
            dtype=tokens.dtype,
        )
        scene_table = frame_table.repeat(views)
        outputs = {}
        for layer in range(1 + max(layers, default=-1)):
            in_frame = self.frame_blocks[layer](tokens, frame_table)
            joined = rearrange(in_frame, "(b s) t c -> b (s t) c", b=scenes)
            in_scene = self.global_blocks[layer](joined, scene_table)
            tokens = rearrange(in_scene, "b (s t) c -> (b s) t c", s=views)
            if layer in layers:
                both = torch.cat([in_frame, tokens], dim=-1)
                outputs[layer] = rearrange(both, "(b s) t c -> b s t c", b=scenes)
        return outputs

    def embed(
        self, images: Float[Tensor, "scenes views 3 height width"]
    ) -> Float[Tensor, "frames tokens channels"]:
        """What enters the first block: camera token, registers, patch tokens of every frame."""
        scenes, views = images.shape[:2]
        patches = self.patch_embed(normalise(rearrange(images, "b s c h w -> (b s) c h w")))
        special = torch.cat([self.camera_token, self.register_token], dim=2).to(patches.dtype)
        first, others = special[:, :1], special[:, 1:].expand(-1, views - 1, -1, -1)
        of_scene = torch.cat([first, others], dim=1).expand(scenes, -1, -1, -1)
        return torch.cat([of_scene.flatten(0, 1), patches], dim=1)


def normalise(images: Float[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 3 height width"]:
    """Subtract ImageNet's mean colour and divide by its deviation, in float32 or longer."""
    images = images.to(stream_dtype(images.dtype))
    mean, deviation = _imagenet_statistics(images.device, images.dtype)
    return (images - mean) / deviation


@kept_by_arguments
def _imagenet_statistics(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    both = torch.tensor([IMAGENET_MEAN, IMAGENET_STD], dtype=dtype, device=device)[..., None, None]
    return both[0], both[1]


def _blocks(config: VGGTConfig) -> nn.ModuleList:
    return nn.ModuleList(
        Block(
            config.embed_dim,
            config.num_heads,
            mlp_ratio=config.mlp_ratio,
            norm_eps=NORM_EPS,
            start_scale=START_LAYER_SCALE,
            norms_query_and_key=config.qk_norm,
        )
        for _ in range(config.depth)
    )
