"""Camera head: the camera token of every view to a pose encoding, refined in four steps.

Each step embeds the pose so far, lets it modulate the camera tokens (adaptive norm with a gate), passes
them through a trunk that attends over the views of a scene, and adds what comes out to the pose. Pose
encoding: translation (3), quaternion xyzw (4, not normalised), vertical and horizontal field of view (rad).
Source: Wang et al., VGGT (2025), §3.3; adaptive norm after Peebles & Xie, DiT (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .block import MLP, Block
from .config import VGGTConfig
from .precision import LayerNorm, stream_dtype

REFINEMENT_STEPS = 4
POSE_SIZE = 9
FIELD_OF_VIEW = slice(7, 9)
NORM_EPS = 1e-5
ADAPTIVE_NORM_EPS = 1e-6
START_LAYER_SCALE = 0.01


@dataclass(frozen=True)
class PoseRefinement:
    """What every step changed, and the pose encoding after it; the last one is the result."""

    deltas: Float[Tensor, "steps scenes views 9"]
    encodings: Float[Tensor, "steps scenes views 9"]


class CameraHead(nn.Module):
    """Camera tokens of the last layer to pose encodings."""

    def __init__(self, config: VGGTConfig):
        super().__init__()
        channels = 2 * config.embed_dim
        self.token_norm = LayerNorm(channels, eps=NORM_EPS)
        self.empty_pose_tokens = nn.Parameter(torch.empty(1, 1, POSE_SIZE))
        self.embed_pose = nn.Linear(POSE_SIZE, channels)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 3 * channels))
        self.adaptive_norm = LayerNorm(channels, eps=ADAPTIVE_NORM_EPS, elementwise_affine=False)
        self.trunk = nn.ModuleList(
            Block(
                channels,
                config.camera_num_heads,
                mlp_ratio=config.mlp_ratio,
                norm_eps=NORM_EPS,
                start_scale=START_LAYER_SCALE,
            )
            for _ in range(config.camera_trunk_depth)
        )
        self.trunk_norm = LayerNorm(channels, eps=NORM_EPS)
        self.pose_branch = MLP(channels, config.embed_dim, POSE_SIZE)

    def forward(self, camera_tokens: Float[Tensor, "scenes views channels"]) -> PoseRefinement:
        """Refine from the empty pose; poses add up in float32 or longer."""
        tokens = self.token_norm(camera_tokens)
        plain = self.adaptive_norm(tokens)
        weights = self.embed_pose.weight.dtype
        raw = self.empty_pose_tokens.expand(*tokens.shape[:2], -1)
        deltas, encodings = [], []
        for step in range(REFINEMENT_STEPS):
            embedded = self.embed_pose(raw.to(weights))
            shift, scale, gate = self.poseLN_modulation(embedded).to(tokens.dtype).chunk(3, dim=-1)
            x = tokens + gate * (plain * (1 + scale) + shift)
            for block in self.trunk:
                x = block(x)
            delta = self.pose_branch(self.trunk_norm(x)).to(stream_dtype(weights))
            raw = raw + delta if step else delta
            deltas.append(delta)
            encodings.append(_positive_field_of_view(raw))
        return PoseRefinement(torch.stack(deltas), torch.stack(encodings))


def _positive_field_of_view(raw: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 9"]:
    """Cut negative fields of view; the running sum itself goes on uncut."""
    return torch.cat([raw[..., : FIELD_OF_VIEW.start], F.relu(raw[..., FIELD_OF_VIEW])], dim=-1)
