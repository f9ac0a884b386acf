"""Sizes of the latent action model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..errors import ConfigError
from ..quantizers.build import Scheme
from ..structures import GEOMETRY_CHANNELS

MAX_CODE_SEQ_LEN = 16

# The least that works. One code, or vectors of one length on a line, would say nothing.
_LEAST = {
    "feature_channels": 1,
    "dim": 1,
    "spatial_depth": 1,
    "temporal_depth": 1,
    "predictor_depth": 1,
    "num_heads": 1,
    "mlp_ratio": 1,
    "num_changed_tokens": 1,
    "num_context_tokens": 1,
    "num_query_tokens": 1,
    "codebook_size": 2,
    "quantizer_dim": 2,
}


@dataclass(frozen=True)
class ConcertoLAQConfig:
    """Sizes of the latent action model."""

    feature_channels: int = 512
    """Network channels of a token; training takes them from the encoder."""
    dim: int = 512
    """Width of the transformers."""
    codebook_size: int = 256
    """Number of codes, shared by all action tokens."""
    code_seq_len: int = 4
    """Action tokens for each pair of frames, 1 to 16."""
    spatial_depth: int = 4
    """Blocks that read the places of one frame."""
    temporal_depth: int = 4
    """Blocks that read the change between the frames."""
    predictor_depth: int = 4
    """Blocks of the forward dynamics model."""
    num_heads: int = 8
    """Attention heads; they divide dim."""
    mlp_ratio: int = 4
    """Hidden width of a block's MLP, in multiples of dim."""
    quantizer: Scheme = "nsvq"
    """The bottleneck's scheme: nsvq, or fsq or ema (extra [vq])."""
    quantizer_dim: int = 32
    """Dimensions of a code."""
    num_changed_tokens: int = 48
    """Places that the action encoder reads: those seen in both frames that changed most."""
    num_context_tokens: int = 48
    """Occupied places of the current frame that the predictor reads."""
    num_query_tokens: int = 32
    """Places whose change is predicted: half are those that changed most, half are spread over the rest."""
    geometry_weight: float = 1.0
    """Weight of the geometry channels' error beside the network channels' error."""
    motion_weight: float = 3.0
    """Weight of the error about the scene's motion, which the codes alone must tell."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 1 <= self.code_seq_len <= MAX_CODE_SEQ_LEN:
            raise ConfigError(f"code_seq_len must be 1 to {MAX_CODE_SEQ_LEN}, got {self.code_seq_len}")
        if self.dim % self.num_heads:
            raise ConfigError(f"num_heads must divide dim, got {self.num_heads} heads for dim {self.dim}")
        if self.quantizer not in get_args(Scheme):
            raise ConfigError(
                f"quantizer must be one of {', '.join(get_args(Scheme))}, got {self.quantizer!r}"
            )
        for name in ("geometry_weight", "motion_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")

    @property
    def channels(self) -> int:
        """All channels of a token: the network's, then the raw geometry."""
        return self.feature_channels + GEOMETRY_CHANNELS
