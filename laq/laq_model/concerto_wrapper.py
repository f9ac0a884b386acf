"""Frames to tokens: VGGT (or recorded depth) → levelled cloud → PTv3 → tokens. Wiring, no maths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from . import ptv3
from .encoder_config import EncoderConfig
from .errors import ConfigError, WeightsError
from .geometry.visibility import sees_past
from .geometry_source import GeometrySource, scenes_of, scenes_per_batch
from .pointcloud.cell_pooling import CellTokens, pool_cells
from .pointcloud.patch_pooling import pool_globally, pool_patches
from .pointcloud.place_states import place_states, with_free_places
from .pointcloud.token_selection import select_tokens
from .published_weights import find_concerto_weights, licence_of
from .scene_observation import SceneObservation, build_geometry_source, observe_scenes
from .structures import FREE, OCCUPIED, UNKNOWN, DepthAndCameras, PairTokens
from .weights import read_weights


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
        margin = self.config.seen_through_margin_m(is_metric=geometry.is_metric)
        return torch.stack(
            [
                sees_past(
                    centre_m,
                    depth=geometry.depth[:, view],
                    intrinsics=geometry.intrinsics[:, view],
                    cam_from_world=geometry.cam_from_world[:, view],
                    margin=margin,
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
