"""How frames become tokens: the settings of every step from a video's frame to what training reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import ConfigError
from .geometry_source import GeometryContext, source_names


@dataclass(frozen=True)
class EncoderConfig:
    """How frames become tokens; every field is part of the fingerprint of stored features."""

    vggt_model: str = "facebook/VGGT-1B"
    """Hub repository of the VGGT weights, or `embedded`."""
    vggt_weights: str = ""
    """A local VGGT weights file (.safetensors, .pt) instead of the Hub."""
    concerto_model: str = "concerto_base"
    """concerto_tiny, concerto_small, concerto_base, concerto_large, or `embedded`."""
    concerto_weights: str = ""
    """A local Concerto weights file (.pth, .safetensors) instead of the Hub."""
    geometry: str = "vggt"
    """Where depth and cameras come from: `vggt` predicts them, `sensor` takes what was recorded with the
    videos; others can be added (docs/geometry-sources.md)."""
    vggt_resolution: int = 0
    """Longer side of what VGGT sees, in pixels, a multiple of 14 (it was trained at 518). 0: the frames'."""
    vggt_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Type of VGGT's large matrices; heads stay float32. auto: bfloat16 on a GPU that has it, or float32."""
    vggt_compile: bool = False
    """Compile VGGT (torch.compile): minutes at the start, then fewer and larger kernels."""
    align_views: bool = False
    """Refine predicted cameras and depth so that what stands still lies in one place in all views of a scene:
    for networks whose poses are rough."""
    geometry_context: GeometryContext = "clip"
    """`clip`: the frames that are compared share one world and scale; `frame`: each alone."""
    max_frames_per_batch: int = 0
    """Frames that the networks take at a time, in whole scenes. 0: as many as suit the device. 1: scene by
    scene, so that a result is the same to the last bit in any batch (what 0 means on a CPU)."""
    confidence_percentile: float = 10.0
    """Percent of a frame's pixels, the least confident, that are dropped (predicted depth only)."""
    depth_edge_ratio: float = 0.1
    """Drop a pixel whose depth differs from a neighbour's by more than this share of it."""
    half_extent_m: float = 1.0
    """Half the side of the scene's box, in metres (nominal metres for predicted depth)."""
    radius_percentile: float = 90.0
    """Percent of a scene's points that its box holds, for depth without metric scale."""
    seen_through_m: float = 0.05
    """A point was seen through when another frame sees this much farther there, in (nominal) metres..."""
    seen_through_share: float = 0.03
    """... and this share of the depth: what depth may be wrong by."""
    max_shift_m: float = 0.2
    """How far a thing may have moved between two frames for its displacement to be searched, in (nominal)
    metres. 0: not searched."""
    optical_expansion: bool = False
    """Where depth is predicted, tell how far a moved body went by where its picture is found and how much
    it grew, and not by its depth: for networks that do not see a hand's change of depth."""
    predicted_slack: float = 1.0
    """Where depth is predicted, seen_through_m, max_shift_m and the cells of the search are larger by this
    factor: such depth wavers, and the nominal metre of a small scene is shorter than a metre."""
    moving_bodies: int = 2
    """Things that move differently between two frames whose displacement is searched."""
    min_color_change: float = 0.1
    """Points vote for a displacement only where the other frame shows another colour in their place, by this
    share of the range: what looks the same was seen through by an error of depth."""
    use_normals: bool = True
    """Give the point network and the tokens surface normals; without, they read zeros."""
    voxel_size_m: float = 0.02
    """Side of a PTv3 grid cell, in metres; 0.02 is what Concerto was trained on."""
    max_points: int = 8192
    """Points of a frame after subsampling."""
    subsampling: Literal["voxel", "random", "farthest"] = "voxel"
    """Which points stay when a frame has more than max_points."""
    feature_levels: int = 2
    """Finer PTv3 stages joined to the deepest one; 0 is the deepest alone (512 features)."""
    pooling: Literal["voxel", "patch", "global"] = "voxel"
    """What one token is: a cell of the world, an image patch, or the whole frame."""
    cell_size_m: float = 0.05
    """Side of a token's cell for pooling=voxel, in metres."""
    patch_size_px: int = 14
    """Side of a token's patch for pooling=patch, in pixels of the depth map."""
    max_tokens: int = 256
    """Places kept for each pair: at most half those that changed most, at most a quarter free ones beside
    what moved, the rest spread over the current frame."""

    def __post_init__(self) -> None:
        positive = (
            "half_extent_m",
            "voxel_size_m",
            "max_points",
            "cell_size_m",
            "patch_size_px",
            "max_tokens",
            "moving_bodies",
            "predicted_slack",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.confidence_percentile < 100:
            raise ConfigError(
                f"confidence_percentile must be from 0 to below 100, got {self.confidence_percentile}"
            )
        if not 0 < self.radius_percentile <= 100:
            raise ConfigError(
                f"radius_percentile must be above 0 and at most 100, got {self.radius_percentile}"
            )
        not_negative = (
            "max_frames_per_batch",
            "vggt_resolution",
            "seen_through_m",
            "seen_through_share",
            "max_shift_m",
            "min_color_change",
        )
        for name in not_negative:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if ":" not in self.geometry and self.geometry not in source_names():
            raise ConfigError(
                f"geometry must be {', '.join(source_names())} or package.module:function, "
                f"got {self.geometry!r}"
            )
        if self.feature_levels < 0:
            raise ConfigError(f"feature_levels must not be negative, got {self.feature_levels}")
        if self.cell_size_m < self.voxel_size_m:
            raise ConfigError(
                f"cell_size_m {self.cell_size_m} is smaller than voxel_size_m {self.voxel_size_m}"
            )

    def slack(self, *, is_metric: bool) -> float:
        """Factor of the lengths that ``predicted_slack`` names, for depth of this kind."""
        return 1.0 if is_metric else self.predicted_slack

    def seen_through_margin_m(self, *, is_metric: bool) -> float:
        """``seen_through_m`` for depth of this kind."""
        return self.seen_through_m * self.slack(is_metric=is_metric)
