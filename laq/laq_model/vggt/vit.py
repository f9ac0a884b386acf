"""Patch embedding: normalised frames to patch tokens, by a DINOv2 vision transformer with registers.

Oquab et al., "DINOv2", 2023; Darcet et al., "Vision Transformers Need Registers", ICLR 2024. The learned
position embedding is a square grid; for another size it is resized with antialiased bicubic interpolation,
given as an output size (without DINOv2's scale-factor offset of 0.1), as VGGT does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .block import Block
from .config import VGGTConfig
from .kept_tensors import KeptTensors
from .precision import LayerNorm, stream_dtype

NORM_EPS = 1e-6
START_LAYER_SCALE = 1.0


class PatchProjection(nn.Module):
    """One vector for each patch: a convolution whose stride is its size."""

    def __init__(self, patch_size: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=patch_size, stride=patch_size)

    def forward(
        self, images: Float[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames channels rows columns"]:
        """Answer in the type of the weights (or autocast's)."""
        return self.proj(images.to(self.proj.weight.dtype))


class VisionTransformer(nn.Module):
    """Frames to patch tokens, each frame alone; cls and register tokens take part and are dropped."""

    def __init__(self, config: VGGTConfig):
        super().__init__()
        channels, grid = config.embed_dim, config.img_size // config.patch_size
        self.stored_grid = grid
        self.num_special_tokens = 1 + config.vit_num_register_tokens
        self.patch_embed = PatchProjection(config.patch_size, channels)
        self.cls_token = nn.Parameter(torch.empty(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid * grid, channels))
        self.register_tokens: nn.Parameter | None = None
        if config.vit_num_register_tokens:
            self.register_tokens = nn.Parameter(torch.empty(1, config.vit_num_register_tokens, channels))
        # Part of the published weights, for DINOv2's masked pre-training; nothing here reads it.
        self.mask_token = nn.Parameter(torch.empty(1, channels))
        self.blocks = nn.ModuleList(
            Block(
                channels,
                config.vit_num_heads,
                mlp_ratio=config.mlp_ratio,
                norm_eps=NORM_EPS,
                start_scale=START_LAYER_SCALE,
            )
            for _ in range(config.vit_depth)
        )
        self.norm = LayerNorm(channels, eps=NORM_EPS)
        self._positions = KeptTensors()

    def forward(
        self, images: Float[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames patches channels"]:
        """Patch tokens, row by row; the images are normalised already."""
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, self.num_special_tokens :])

    def embed(
        self, images: Float[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames tokens channels"]:
        """What enters the blocks: cls, registers (which have no position), patches."""
        patches = self.patch_embed(images)
        frames, _, rows, columns = patches.shape
        positions = self.position_embedding((rows, columns))
        patches = patches.flatten(2).transpose(1, 2) + positions[:, 1:]
        special = self.cls_token.to(positions.dtype) + positions[:, :1]
        if self.register_tokens is not None:
            special = torch.cat([special, self.register_tokens.to(positions.dtype)], dim=1)
        return torch.cat([special.expand(frames, -1, -1), patches], dim=1)

    def position_embedding(self, grid: tuple[int, int]) -> Float[Tensor, "1 cls_and_patches channels"]:
        """Position embedding of cls and of a grid of (rows, columns); kept while the weights are frozen."""
        return self._positions.get(self.pos_embed, grid, lambda: self._resized_positions(grid))

    def _resized_positions(self, grid: tuple[int, int]) -> Float[Tensor, "1 cls_and_patches channels"]:
        stored = self.pos_embed.to(stream_dtype(self.pos_embed.dtype))
        if grid == (self.stored_grid, self.stored_grid):
            return stored
        square = stored[:, 1:].unflatten(1, (self.stored_grid, self.stored_grid)).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([stored[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
