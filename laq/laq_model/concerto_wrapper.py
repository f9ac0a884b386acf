"""Frames to tokens: VGGT (or recorded depth) → levelled cloud → PTv3 → tokens. Wiring, no maths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from . import ptv3
from .errors import ConfigError, WeightsError
from .geometry.cameras import camera_centre, change_world
from .geometry.normals import normals_from_point_map
from .geometry.recoloring import color_change
from .geometry.unproject import unproject_depth
from .geometry.visibility import seen_through_by_others, sees_past
from .geometry_source import (
    GeometryContext,
    GeometrySource,
    SourceSettings,
    build_source,
    check_geometry,
    scenes_of,
    scenes_per_batch,
    source_names,
)
from .pointcloud.build import build_point_cloud
from .pointcloud.cell_pooling import CellTokens, pool_cells
from .pointcloud.displacement import displacement_of_moved
from .pointcloud.filtering import keep_points
from .pointcloud.patch_pooling import pool_globally, pool_patches
from .pointcloud.place_states import place_states, with_free_places
from .pointcloud.scale import fit_scene_box, to_level
from .pointcloud.token_selection import select_tokens
from .published_weights import find_concerto_weights, licence_of
from .structures import FREE, OCCUPIED, UNKNOWN, DepthAndCameras, PairTokens, PointCloud
from .weights import read_weights


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
    moving_bodies: int = 2
    """Things that move differently between two frames whose displacement is searched."""
    min_color_change: float = 0.1
    """Points vote for a displacement only where the other frame shows another colour in their place, by this
    share of the range: what looks the same was seen through by an error of depth."""
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


@dataclass(frozen=True)
class SceneObservation:
    """What the views of each scene show in its levelled world: z up, (nominal) metres, shared origin.

    Attributes:
        geometry: depth and cameras in that world.
        is_kept: pixels that became points; the rest had no depth, low confidence or lay on a depth edge.
        grid_coord: PTv3 cell of each point of ``cloud``, counted from one corner of the box.
        num_dropped: pixels dropped, by reason.
    """

    geometry: DepthAndCameras
    point_map_m: Float[Tensor, "scenes views height width 3"]
    normal: Float[Tensor, "scenes views height width 3"]
    color: Float[Tensor, "scenes views height width 3"]
    is_kept: Bool[Tensor, "scenes views height width"]
    cloud: PointCloud
    grid_coord: Int[Tensor, "points 3"]
    num_dropped: Mapping[str, int]


class ConcertoEncoder(nn.Module):
    """The frozen half of the system. Its networks stay in eval mode and never require gradients."""

    def __init__(self, source: GeometrySource, network: ptv3.PointTransformerV3, config: EncoderConfig):
        super().__init__()
        finer = len(network.config.enc_depths) - 1
        if config.feature_levels > finer:
            raise ConfigError(
                f"feature_levels must be at most {finer}, the finer stages of this network; "
                f"got {config.feature_levels}"
            )
        self.source = source
        self.network = network
        self.config = config
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ConcertoEncoder:
        """Stay in eval, whatever the model around asks for."""
        return super().train(False)

    @property
    def feature_channels(self) -> int:
        """Network channels of a token, read from the loaded weights."""
        return sum(self.network.config.enc_channels[-1 - self.config.feature_levels :])

    @torch.no_grad()
    def forward(
        self, frames: Float[Tensor, "pairs 2 3 height width"], recorded: DepthAndCameras | None = None
    ) -> PairTokens:
        """Tokens of each pair; ``frames`` are RGB in [0, 1]. Pairs do not influence one another.

        Each pair is a scene, and scenes go through all parts in groups of ``max_frames_per_batch`` frames.
        """
        step = scenes_per_batch(self.config.max_frames_per_batch, frames.shape[1], frames.device)
        return _joined(
            [
                # A copy, aligned like any other: what a group computes is what it computes alone.
                self.tokens(
                    self.observe(
                        frames[group].clone(), None if recorded is None else scenes_of(recorded, group)
                    )
                )
                for group in (slice(start, start + step) for start in range(0, len(frames), step))
            ]
        )

    @torch.no_grad()
    def observe(
        self, frames: Float[Tensor, "scenes views 3 height width"], recorded: DepthAndCameras | None = None
    ) -> SceneObservation:
        """Depth, cameras, normals and the subsampled cloud of every view, in its scene's levelled world."""
        return observe_scenes(self.source, frames, recorded, config=self.config)

    @torch.no_grad()
    def point_features(self, scene: SceneObservation) -> Float[Tensor, "points channels"]:
        """PTv3 features of every point of the cloud; the serialization depth is fixed by the box."""
        cloud, views = scene.cloud, scene.is_kept.shape[1]
        if len(cloud.coord_m) == 0:
            return cloud.coord_m.new_zeros(0, self.feature_channels)
        # Concerto centres z on the lowest point; ours is fixed to the floor of the box, so that the two
        # frames of a pair, and all pairs, share one origin.
        coord = cloud.coord_m + cloud.coord_m.new_tensor([0.0, 0.0, self.config.half_extent_m])
        return ptv3.point_features(
            self.network,
            coord=coord,
            grid_coord=scene.grid_coord,
            feat=torch.cat([coord, cloud.color, cloud.normal], dim=-1),
            offset=cloud.offset,
            max_grid_coord=math.ceil(2 * self.config.half_extent_m / self.config.voxel_size_m) - 1,
            levels=self.config.feature_levels,
            clouds_per_call=views * scenes_per_batch(self.config.max_frames_per_batch, views, coord.device),
        )

    @torch.no_grad()
    def tokens(self, scene: SceneObservation) -> PairTokens:
        """Pool the point features of both frames at the same places, and choose the places that tell most."""
        config = self.config
        cells = self._pool(self.point_features(scene), scene)
        if config.pooling == "voxel":
            cells, state = with_free_places(
                cells,
                place_states(cells),
                is_free=lambda centre_m: self._is_free(centre_m, scene),
                cell_size_m=config.cell_size_m,
                half_extent_m=config.half_extent_m,
                max_places=config.max_tokens // 4,
            )
        else:
            # A patch or a whole frame is looked at in every frame: nothing there is hidden.
            state = torch.where(cells.is_occupied, OCCUPIED, FREE)
        state = torch.where(cells.is_valid[:, None], state, UNKNOWN)
        return select_tokens(
            cells, state=state, half_extent_m=config.half_extent_m, max_tokens=config.max_tokens
        )

    def _is_free(
        self, centre_m: Float[Tensor, "scenes places 3"], scene: SceneObservation
    ) -> Bool[Tensor, "scenes places"]:
        """Whether all views see past these places."""
        geometry = scene.geometry
        return torch.stack(
            [
                sees_past(
                    centre_m,
                    depth=geometry.depth[:, view],
                    intrinsics=geometry.intrinsics[:, view],
                    cam_from_world=geometry.cam_from_world[:, view],
                    margin=self.config.seen_through_m,
                    margin_share=self.config.seen_through_share,
                )
                for view in range(geometry.depth.shape[1])
            ]
        ).all(0)

    def _pool(self, feat: Float[Tensor, "points channels"], scene: SceneObservation) -> CellTokens:
        config = self.config
        views, height, width = scene.is_kept.shape[1:]
        if config.pooling == "voxel":
            return pool_cells(
                feat,
                scene.cloud,
                views=views,
                cell_size_m=config.cell_size_m,
                half_extent_m=config.half_extent_m,
            )
        if config.pooling == "patch":
            return pool_patches(
                feat,
                scene.cloud,
                views=views,
                height=height,
                width=width,
                patch_size=config.patch_size_px,
                half_extent_m=config.half_extent_m,
            )
        return pool_globally(feat, scene.cloud, views=views)


def _joined(groups: Sequence[PairTokens]) -> PairTokens:
    """Groups of pairs as one."""
    return PairTokens(
        feat=torch.cat([tokens.feat for tokens in groups]),
        state=torch.cat([tokens.state for tokens in groups]),
        position=torch.cat([tokens.position for tokens in groups]),
        is_valid=torch.cat([tokens.is_valid for tokens in groups]),
    )


@torch.no_grad()
def observe_scenes(
    source: GeometrySource,
    frames: Float[Tensor, "scenes views 3 height width"],
    recorded: DepthAndCameras | None = None,
    *,
    config: EncoderConfig,
) -> SceneObservation:
    """What the point network is given; it takes no part itself, so a picture of a cloud needs none.

    Args:
        source: depth and cameras; a network must be in eval mode.
        frames: RGB in [0, 1]; the views of a scene share one world.
        recorded: what was recorded with the frames, for ``SensorSource``.
        config: filters, box, voxels and points.

    Raises:
        GeometryError: a scene has no point left, or none was recorded for ``SensorSource``.
    """
    geometry = source(frames, recorded)
    check_geometry(geometry, frames, source=source.name)
    color = _colors_at(frames, geometry.depth.shape[-2:])
    point_map = unproject_depth(geometry.depth, geometry.intrinsics, geometry.cam_from_world)
    percentile = 0.0 if geometry.is_metric else config.confidence_percentile
    is_kept = keep_points(
        geometry.depth,
        geometry.confidence,
        confidence_percentile=percentile,
        depth_edge_ratio=config.depth_edge_ratio,
    )
    box = fit_scene_box(
        point_map,
        is_kept=is_kept,
        world_up=geometry.world_up,
        is_metric=geometry.is_metric,
        half_extent_m=config.half_extent_m,
        radius_percentile=config.radius_percentile,
    )
    scale = box.metres_per_world_unit
    views = frames.shape[1]
    level = DepthAndCameras(
        depth=geometry.depth * scale[:, None, None, None],
        confidence=geometry.confidence,
        intrinsics=geometry.intrinsics,
        cam_from_world=change_world(
            geometry.cam_from_world,
            rotation=box.rotation[:, None].expand(-1, views, 3, 3),
            origin=box.origin_world[:, None].expand(-1, views, 3),
            scale=scale[:, None].expand(-1, views),
        ),
        world_up=torch.zeros_like(geometry.world_up).index_fill(
            -1, torch.tensor(2, device=scale.device), 1.0
        ),
        is_metric=geometry.is_metric,
    )
    point_map_m = to_level(point_map, box)
    has_depth = geometry.depth > 0
    normal = normals_from_point_map(
        point_map_m, is_valid=has_depth, camera_centre=camera_centre(level.cam_from_world)
    )
    is_seen_through = seen_through_by_others(
        point_map_m,
        depth=level.depth,
        intrinsics=level.intrinsics,
        cam_from_world=level.cam_from_world,
        margin=config.seen_through_m,
        margin_share=config.seen_through_share,
    )
    displacement_m = torch.zeros_like(point_map_m)
    if views == 2 and config.max_shift_m > 0:
        change = color_change(
            point_map_m, color=color, intrinsics=level.intrinsics, cam_from_world=level.cam_from_world
        )
        displacement_m = displacement_of_moved(
            point_map_m,
            color=color,
            is_kept=is_kept,
            is_moved=is_seen_through & (change >= config.min_color_change),
            cell_m=config.voxel_size_m,
            max_shift_m=config.max_shift_m,
            num_bodies=config.moving_bodies,
        )
    cloud, grid_coord = build_point_cloud(
        point_map_m,
        color=color,
        normal=normal,
        is_seen_through=is_seen_through,
        displacement_m=displacement_m,
        is_kept=is_kept,
        half_extent_m=config.half_extent_m,
        voxel_size_m=config.voxel_size_m,
        max_points=config.max_points,
        method=config.subsampling,
        generator=torch.Generator(device=frames.device).manual_seed(0),
    )
    num_pixels, num_kept = is_kept.numel(), int(is_kept.sum())
    num_without_depth = num_pixels - int(has_depth.sum())
    return SceneObservation(
        geometry=level,
        point_map_m=point_map_m,
        normal=normal,
        color=color,
        is_kept=is_kept,
        cloud=cloud,
        grid_coord=grid_coord,
        num_dropped={
            "no depth": num_without_depth,
            "low confidence or depth edge": num_pixels - num_without_depth - num_kept,
            "same voxel, outside the box or above max_points": num_kept - len(cloud.coord_m),
        },
    )


def build_geometry_source(config: EncoderConfig, *, device: torch.device | str = "cpu") -> GeometrySource:
    """The source of depth and cameras that ``config`` names, frozen and in eval mode.

    Raises:
        ConfigError: there is no such source.
        WeightsError: weights are missing (the message says how to give them), damaged or of another network.
    """
    source = build_source(
        config.geometry,
        SourceSettings(
            model=config.vggt_model,
            weights=config.vggt_weights,
            dtype=config.vggt_dtype,
            is_compiled=config.vggt_compile,
            is_aligned=config.align_views,
            context=config.geometry_context,
            resolution_px=config.vggt_resolution,
            max_frames_per_batch=config.max_frames_per_batch,
            device=torch.device(device),
        ),
    )
    return source.requires_grad_(False).eval() if isinstance(source, nn.Module) else source


def build_encoder(config: EncoderConfig, *, device: torch.device | str = "cpu") -> ConcertoEncoder:
    """Find, open and check the weights that ``config`` names, and wire the encoder.

    Raises:
        ConfigError: there is no such geometry source.
        WeightsError: weights are missing (the message says how to give them), damaged or of another network.
    """
    source = build_geometry_source(config, device=device)
    network = build_point_network(config, device=device)
    return ConcertoEncoder(source, network, config)


def build_point_network(
    config: EncoderConfig, *, device: torch.device | str = "cpu"
) -> ptv3.PointTransformerV3:
    """The point encoder that ``config`` names, with memory for one network and little more.

    Prints the licence of the weights.

    Raises:
        WeightsError: weights are missing (the message says how to give them), damaged or of another network.
    """
    file = read_weights(find_concerto_weights(config.concerto_model, file=config.concerto_weights))
    if not file.config:
        raise WeightsError(
            f"{file.path} carries no network configuration; a Concerto file holds {{config, state_dict}}"
        )
    with torch.device("meta"):
        network = ptv3.build_ptv3(file.config)
    network.to_empty(device=device)
    ptv3.load_official_weights(network, file.tensors)
    model, given = config.concerto_model, config.concerto_weights
    print(licence_of(model, network="concerto", file=given, stated=file.licence))
    return network


def _colors_at(
    frames: Float[Tensor, "scenes views 3 height width"], size: torch.Size | tuple[int, int]
) -> Float[Tensor, "scenes views depth_height depth_width 3"]:
    """The frames' colours at the depth map's resolution (area average), channels last."""
    flat = rearrange(frames, "b s c h w -> (b s) c h w")
    if tuple(flat.shape[-2:]) != tuple(size):
        flat = F.interpolate(flat, size=tuple(size), mode="area")
    return rearrange(flat, "(b s) c h w -> b s h w c", b=frames.shape[0])
