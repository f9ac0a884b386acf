"""Frames to one levelled world: depth and cameras → points, normals, what moved and where to → the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .encoder_config import EncoderConfig
from .geometry.cameras import camera_centre, change_world
from .geometry.normals import normals_from_point_map
from .geometry.optical_expansion import displacement_by_expansion
from .geometry.recoloring import color_change
from .geometry.unproject import unproject_depth
from .geometry.visibility import seen_through_by_others
from .geometry_source import GeometrySource, SourceSettings, build_source, check_geometry
from .pointcloud.build import build_point_cloud
from .pointcloud.displacement import displacement_of_moved
from .pointcloud.filtering import keep_points
from .pointcloud.scale import fit_scene_box, to_level
from .structures import DepthAndCameras, PointCloud

# How far about its points that moved a body's picture is taken from, where optical expansion is asked for.
BODY_REACH_CELLS = 4
# Predicted depth lets a small thing before a near wall hardly be seen through. Where fewer than this share of
# a scene's pixels are, those that are by this part of the margin are asked, too, how far they went.
FEW_MOVED, NEARLY = 1 / 64, 0.2


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
    scale, views = box.metres_per_world_unit, frames.shape[1]
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
    is_seen_through = _seen_through(point_map_m, level, config)
    displacement_m = torch.zeros_like(point_map_m)
    if views == 2 and config.max_shift_m > 0:
        displacement_m = _displacement(
            point_map_m,
            level,
            color=color,
            is_kept=is_kept,
            is_seen_through=is_seen_through,
            config=config,
        )
    cloud, grid_coord = build_point_cloud(
        point_map_m,
        color=color,
        normal=normal if config.use_normals else torch.zeros_like(normal),
        is_seen_through=is_seen_through,
        displacement_m=displacement_m,
        is_kept=is_kept,
        half_extent_m=config.half_extent_m,
        voxel_size_m=config.voxel_size_m,
        max_points=config.max_points,
        method=config.subsampling,
        generator=torch.Generator(device=frames.device).manual_seed(0),
    )
    num_kept, num_with_depth = torch.stack([is_kept.sum(), has_depth.sum()]).tolist()
    num_pixels, num_without_depth = is_kept.numel(), has_depth.numel() - num_with_depth
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


def _seen_through(
    point_map_m: Float[Tensor, "scenes views height width 3"],
    level: DepthAndCameras,
    config: EncoderConfig,
    *,
    part_of_margin: float = 1.0,
) -> Bool[Tensor, "scenes views height width"]:
    """Points that another view sees past, by the margin or by a part of it."""
    return seen_through_by_others(
        point_map_m,
        depth=level.depth,
        intrinsics=level.intrinsics,
        cam_from_world=level.cam_from_world,
        margin=part_of_margin * config.seen_through_margin_m(is_metric=level.is_metric),
        margin_share=part_of_margin * config.seen_through_share,
    )


def _displacement(
    point_map_m: Float[Tensor, "scenes 2 height width 3"],
    level: DepthAndCameras,
    *,
    color: Float[Tensor, "scenes 2 height width 3"],
    is_kept: Bool[Tensor, "scenes 2 height width"],
    is_seen_through: Bool[Tensor, "scenes 2 height width"],
    config: EncoderConfig,
) -> Float[Tensor, "scenes 2 height width 3"]:
    """How far each point that moved went from the first frame to the second; zero elsewhere."""
    slack = config.slack(is_metric=level.is_metric)
    cell_m = config.voxel_size_m * slack
    change = color_change(
        point_map_m, color=color, intrinsics=level.intrinsics, cam_from_world=level.cam_from_world
    )
    has_changed = change >= config.min_color_change
    is_moved = is_seen_through & has_changed
    if not level.is_metric:
        is_few = (is_moved & is_kept).flatten(1).float().mean(1) < FEW_MOVED
        is_nearly = _seen_through(point_map_m, level, config, part_of_margin=NEARLY)
        is_moved |= is_few[:, None, None, None] & is_nearly & has_changed
    displacement_m = displacement_of_moved(
        point_map_m,
        color=color,
        is_kept=is_kept,
        is_moved=is_moved,
        cell_m=cell_m,
        max_shift_m=config.max_shift_m * slack,
        num_bodies=config.moving_bodies,
    )
    if level.is_metric or not config.optical_expansion:
        return displacement_m
    return displacement_by_expansion(
        displacement_m,
        point_map_m=point_map_m,
        color=color,
        has_changed=has_changed,
        intrinsics=level.intrinsics,
        cam_from_world=level.cam_from_world,
        reach_m=BODY_REACH_CELLS * cell_m,
    )


def _colors_at(
    frames: Float[Tensor, "scenes views 3 height width"], size: torch.Size | tuple[int, int]
) -> Float[Tensor, "scenes views depth_height depth_width 3"]:
    """The frames' colours at the depth map's resolution (area average), channels last."""
    flat = rearrange(frames, "b s c h w -> (b s) c h w")
    if tuple(flat.shape[-2:]) != tuple(size):
        flat = F.interpolate(flat, size=tuple(size), mode="area")
    return rearrange(flat, "(b s) c h w -> b s h w c", b=frames.shape[0])
