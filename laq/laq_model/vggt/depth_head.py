"""Depth head: patch tokens of four layers to depth and confidence of every pixel, each frame alone.

Ranftl et al., "Vision Transformers for Dense Prediction" (DPT), ICCV 2021, with VGGT's position maps.
Departures that the published weights were trained with: a residual unit adds the *activated* input, and a
position map is added at five places. The 1×1 convolution of a fusion step runs before its bilinear resize:
the two commute, as interpolation weights sum to 1, and this order costs a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import DPT_LEVELS, VGGTConfig
from .kept_tensors import kept_by_arguments
from .precision import LayerNorm, stream_dtype

NORM_EPS = 1e-5
HEAD_CHANNELS = 32  # before the last convolution
POSITION_BASE = 100.0
POSITION_SHARE = 0.1  # position maps are added at a tenth of unit amplitude
FRAMES_PER_CHUNK = 8


@dataclass(frozen=True)
class DepthMaps:
    """Depth along the optical axis in scene units, and confidence from 1 up; pixel by pixel."""

    depth: Float[Tensor, "frames height width"]
    confidence: Float[Tensor, "frames height width"]


class ResidualConvUnit(nn.Module):
    """relu(x) + conv₂(relu(conv₁(relu(x)))). The skip is activated, too: the weights were trained so."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "frames c h w"]) -> Float[Tensor, "frames c h w"]:
        """A map of the same size."""
        activated = F.relu(x)
        return activated + self.conv2(F.relu(self.conv1(activated)))


class FeatureFusion(nn.Module):
    """Join a level with what came from the coarser one, if there is one, and resize."""

    def __init__(self, channels: int, *, is_coarsest: bool):
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, kernel_size=1)
        if not is_coarsest:
            self.resConfUnit1 = ResidualConvUnit(channels)
        self.resConfUnit2 = ResidualConvUnit(channels)

    def forward(
        self,
        level: Float[Tensor, "frames c h w"],
        coarser: Float[Tensor, "frames c h w"] | None,
        *,
        size: tuple[int, int],
    ) -> Float[Tensor, "frames c out_h out_w"]:
        """The fused map at (height, width) ``size``."""
        if coarser is not None:
            level = coarser + self.resConfUnit1(level)
        return _resize(self.out_conv(self.resConfUnit2(level)), size)


class Scratch(nn.Module):
    """The convolutions after the pyramid; the name is that of the published weights."""

    def __init__(self, features: int, level_channels: Sequence[int]):
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(channels, features, kernel_size=3, padding=1, bias=False) for channels in level_channels
        )
        self.refinenet1 = FeatureFusion(features, is_coarsest=False)
        self.refinenet2 = FeatureFusion(features, is_coarsest=False)
        self.refinenet3 = FeatureFusion(features, is_coarsest=False)
        self.refinenet4 = FeatureFusion(features, is_coarsest=True)
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, HEAD_CHANNELS, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HEAD_CHANNELS, 2, kernel_size=1),
        )

    def adapt(self, level: int, x: Float[Tensor, "frames c h w"]) -> Float[Tensor, "frames features h w"]:
        """Bring a level, 0 being the finest, to the channels of the fusion."""
        return (self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn)[level](x)

    def fusion(self, level: int) -> FeatureFusion:
        """The fusion step of a level, 0 being the finest."""
        return (self.refinenet1, self.refinenet2, self.refinenet3, self.refinenet4)[level]


class DPTHead(nn.Module):
    """Four aggregator layers to depth maps. Its stages can be called one by one."""

    def __init__(self, config: VGGTConfig):
        super().__init__()
        channels = config.dpt_out_channels
        self.patch_size = config.patch_size
        self.num_special_tokens = 1 + config.num_register_tokens
        self.norm = LayerNorm(2 * config.embed_dim, eps=NORM_EPS)
        self.projects = nn.ModuleList(nn.Conv2d(2 * config.embed_dim, c, kernel_size=1) for c in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], kernel_size=4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = Scratch(config.dpt_features, channels)

    def forward(
        self,
        layers: Sequence[Float[Tensor, "frames tokens channels"]],
        *,
        image_size: tuple[int, int],
        max_frames_per_chunk: int = FRAMES_PER_CHUNK,
    ) -> DepthMaps:
        """Depth maps of (height, width) ``image_size``; smaller chunks save memory and change no number."""
        if max_frames_per_chunk < 1:
            raise ValueError(f"max_frames_per_chunk must be at least 1, got {max_frames_per_chunk}")
        chunks = zip(*(layer.split(max_frames_per_chunk) for layer in layers), strict=True)
        raw = torch.cat([self._raw(chunk, image_size) for chunk in chunks])
        raw = raw.to(stream_dtype(raw.dtype))
        return DepthMaps(depth=raw[:, 0].exp(), confidence=1 + raw[:, 1].exp())

    def _raw(
        self, layers: Sequence[Float[Tensor, "frames tokens channels"]], image_size: tuple[int, int]
    ) -> Float[Tensor, "frames 2 height width"]:
        levels = []
        for level, tokens in enumerate(layers):
            projected = self.project(level, tokens, image_size=image_size)
            levels.append(self.pyramid_level(level, projected, image_size=image_size))
        fused = self.fuse(levels)[-1]
        return self.predict(self.scratch.output_conv1(fused), image_size=image_size)

    def project(
        self, level: int, tokens: Float[Tensor, "frames tokens channels"], *, image_size: tuple[int, int]
    ) -> Float[Tensor, "frames c rows columns"]:
        """Patch tokens of one layer as a map of the level's channels, one pixel a patch."""
        rows, columns = (extent // self.patch_size for extent in image_size)
        patches = self.norm(tokens[:, self.num_special_tokens :])
        project = self.projects[level]
        grid = patches.transpose(1, 2).unflatten(2, (rows, columns))
        return project(grid.to(project.weight.dtype))

    def pyramid_level(
        self, level: int, projected: Float[Tensor, "frames c rows columns"], *, image_size: tuple[int, int]
    ) -> Float[Tensor, "frames c h w"]:
        """The level at its resolution: 4, 2, 1 and ½ pixels a patch."""
        return self.resize_layers[level](_add_position_(projected.clone(), image_size))

    def fuse(
        self, levels: Sequence[Float[Tensor, "frames _ _ _"]]
    ) -> list[Float[Tensor, "frames features _ _"]]:
        """Outputs of the fusion steps from the coarsest level to the finest, the last at 8 pixels a patch."""
        adapted = [self.scratch.adapt(level, x) for level, x in enumerate(levels)]
        height, width = adapted[0].shape[-2:]
        sizes = [(2 * height, 2 * width)] + [(x.shape[-2], x.shape[-1]) for x in adapted[:-1]]
        fused: list[Tensor] = []
        for level in reversed(range(DPT_LEVELS)):
            coarser = fused[-1] if fused else None
            fused.append(self.scratch.fusion(level)(adapted[level], coarser, size=sizes[level]))
        return fused

    def predict(
        self, features: Float[Tensor, "frames c h w"], *, image_size: tuple[int, int]
    ) -> Float[Tensor, "frames 2 height width"]:
        """Log depth and log (confidence − 1) at every pixel of the image."""
        return self.scratch.output_conv2(_add_position_(_resize(features, image_size), image_size))


def position_vectors(
    channels: int, grid: tuple[int, int], *, aspect: float
) -> tuple[Float[Tensor, "half_channels 1 columns"], Float[Tensor, "half_channels rows 1"]]:
    """The position map E(channels, rows, columns), apart: half its channels vary along x, half along y.

    Pixel centres lie in a box of width ``aspect`` : 1 with unit half diagonal; with K = channels / 4, each
    coordinate gives sin and cos of it times 100^(−j/K). In float64, already scaled by POSITION_SHARE.
    """
    rows, columns = grid
    diagonal = math.hypot(aspect, 1.0)
    frequency = POSITION_BASE ** -(torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))

    def waves(count: int, extent: float) -> Tensor:
        end = extent * (count - 1) / count
        angle = frequency[:, None] * torch.linspace(-end, end, count, dtype=torch.float64)
        return POSITION_SHARE * torch.cat([angle.sin(), angle.cos()])

    return waves(columns, aspect / diagonal)[:, None, :], waves(rows, 1 / diagonal)[:, :, None]


@kept_by_arguments
def _kept_position_vectors(  # noqa: PLR0917 (kept by position)
    channels: int, rows: int, columns: int, aspect: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Position vectors on a device, kept by these arguments: rows + columns numbers for each channel."""
    along_x, along_y = position_vectors(channels, (rows, columns), aspect=aspect)
    return along_x.to(dtype).to(device), along_y.to(dtype).to(device)  # MPS has no float64


def _add_position_(
    x: Float[Tensor, "frames c h w"], image_size: tuple[int, int]
) -> Float[Tensor, "frames c h w"]:
    """Add the position map to ``x`` itself: at full resolution a copy would be the head's largest tensor."""
    height, width = image_size
    half = x.shape[1] // 2
    along_x, along_y = _kept_position_vectors(*x.shape[1:], width / height, x.device, stream_dtype(x.dtype))
    x[:, :half].add_(along_x)
    x[:, half:].add_(along_y)
    return x


def _resize(x: Float[Tensor, "frames c h w"], size: tuple[int, int]) -> Float[Tensor, "frames c h2 w2"]:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
