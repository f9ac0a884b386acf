"""The nouns that rooms hand to each other: frozen, with shapes and units, without behaviour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor

# What a frame says of a cell of the world.
UNKNOWN, FREE, OCCUPIED = 0, 1, 2

# Raw geometry that each token carries after its network features, in this order:
# occupancy (1), share of its points that the other frame sees through (1), mean displacement of those whose
# motion was found (3, metres, from frame 0 to frame 1), place in the cell (3, in cell sizes, centre 0),
# normal (3), colour (3).
GEOMETRY_CHANNELS = 14
OCCUPANCY, SEEN_THROUGH = -14, -13
DISPLACEMENT = slice(-12, -9)
BOTH_FRAMES = slice(-13, -9)  # the channels of one frame that the other has a say in


@dataclass(frozen=True)
class DepthAndCameras:
    """Views of independent scenes, each scene in one world frame and one scale.

    Attributes:
        depth: along the optical axis, world units; 0 where there is none.
        confidence: at least 0, larger is surer; comparable inside a scene only.
        intrinsics: pixels of this depth map; a pixel's (u, v) is its integer (column, row).
        cam_from_world: OpenCV axes (x right, y down, z forward), translation in world units.
        world_up: unit vector against gravity, in the world frame.
        is_metric: world units are metres; otherwise they are known up to one factor a scene.
    """

    depth: Float[Tensor, "scenes views height width"]
    confidence: Float[Tensor, "scenes views height width"]
    intrinsics: Float[Tensor, "scenes views 3 3"]
    cam_from_world: Float[Tensor, "scenes views 3 4"]
    world_up: Float[Tensor, "scenes 3"]
    is_metric: bool

    def to(self, device: torch.device | str) -> DepthAndCameras:
        """The same scenes on another device."""
        return DepthAndCameras(
            depth=self.depth.to(device),
            confidence=self.confidence.to(device),
            intrinsics=self.intrinsics.to(device),
            cam_from_world=self.cam_from_world.to(device),
            world_up=self.world_up.to(device),
            is_metric=self.is_metric,
        )


@dataclass(frozen=True)
class FramePair:
    """Two frames of one video, and what was recorded with them.

    Attributes:
        video: path of the file, relative to the data folder, with forward slashes.
        current_index: frame number, counted from 0 in decoding order.
        future_index: frame number of the second frame.
        current_time_s: presentation time of the current frame.
        future_time_s: presentation time of the future frame.
        frames: RGB, current first.
        sensor: one scene of two views, for data with recorded depth and cameras.
    """

    video: str
    current_index: int
    future_index: int
    current_time_s: float
    future_time_s: float
    frames: UInt8[Tensor, "2 height width 3"]
    sensor: DepthAndCameras | None = None


@dataclass(frozen=True)
class PointCloud:
    """Clouds of points, one after the other; cloud number = scene * views + view.

    Attributes:
        coord_m: metres (nominal metres for a source without metric scale), z against gravity, origin at the
            centre that the scene's views share.
        color: RGB in [0, 1].
        normal: unit vectors toward the camera, zero where undefined.
        is_seen_through: by another view of the scene; so what stood there is there no more, or not yet.
        displacement_m: of points that moved, from the first view of the scene to the second; zero elsewhere,
            where it could not be told, and in scenes of other than two views.
        pixel_index: row * width + column of each point in its own view.
        offset: end row of each cloud.
    """

    coord_m: Float[Tensor, "points 3"]
    color: Float[Tensor, "points 3"]
    normal: Float[Tensor, "points 3"]
    is_seen_through: Bool[Tensor, " points"]
    displacement_m: Float[Tensor, "points 3"]
    pixel_index: Int[Tensor, " points"]
    offset: Int[Tensor, " clouds"]


@dataclass(frozen=True)
class PairTokens:
    """What two frames show at the same places of the world; frame 0 is current, frame 1 future.

    Attributes:
        feat: network features, then GEOMETRY_CHANNELS of raw geometry; zero where a frame has no point there.
        state: UNKNOWN, FREE or OCCUPIED for each frame.
        position: centre of the place, in the [-1, 1] box of the scene.
        is_valid: False for padding.
    """

    feat: Float[Tensor, "pairs 2 tokens channels"]
    state: Int[Tensor, "pairs 2 tokens"]
    position: Float[Tensor, "pairs tokens 3"]
    is_valid: Bool[Tensor, "pairs tokens"]

    def to(self, device: torch.device | str) -> PairTokens:
        """The same tokens on another device, features in float32."""
        return PairTokens(
            feat=self.feat.to(device, torch.float32),
            state=self.state.to(device),
            position=self.position.to(device),
            is_valid=self.is_valid.to(device),
        )


@dataclass(frozen=True)
class LatentAction:
    """What changed between the frames of each pair.

    Attributes:
        codes: index into the codebook, one for each action token.
        vectors: the codebook rows of these indices.
    """

    codes: Int[Tensor, "pairs code_seq_len"]
    vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"]


@dataclass(frozen=True)
class LatentActions:
    """The actions of all pairs of one video, in time order.

    Attributes:
        codes: index into the codebook, one for each action token.
        vectors: the codebook rows of these indices.
        current_time_s: presentation time of each pair's current frame.
        future_time_s: presentation time of its future frame.
    """

    codes: Int[Tensor, "pairs code_seq_len"]
    vectors: Float[Tensor, "pairs code_seq_len quantizer_dim"]
    current_time_s: Float64[Tensor, " pairs"]
    future_time_s: Float64[Tensor, " pairs"]
