"""Sizes of the pixels-only rival: those of the run that it rivals, and how a frame is cut into patches."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..action_model.config import ConcertoLAQConfig
from ..errors import ConfigError
from ..quantizers.build import Scheme


@dataclass(frozen=True)
class PixelLAQConfig:
    """Sizes of the pixels-only rival; see ``ConcertoLAQConfig`` for those that both have.

    Attributes:
        frame_size: side of the square frames, in pixels.
        patch_size: side of a patch, in pixels; it divides frame_size.
    """

    frame_size: int
    patch_size: int
    dim: int
    codebook_size: int
    code_seq_len: int
    spatial_depth: int
    temporal_depth: int
    predictor_depth: int
    num_heads: int
    mlp_ratio: int
    quantizer: Scheme
    quantizer_dim: int

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.frame_size < 1 or self.frame_size % self.patch_size:
            raise ConfigError(
                f"pixel_patch_size must divide pixel_frame_size, got {self.patch_size} for {self.frame_size}"
            )

    @property
    def patches_per_side(self) -> int:
        """Patches in a row, and in a column."""
        return self.frame_size // self.patch_size

    @property
    def channels(self) -> int:
        """Colour values of a patch."""
        return 3 * self.patch_size**2


def rival_of(config: ConcertoLAQConfig, *, frame_size: int, patch_size: int) -> PixelLAQConfig:
    """The rival as wide and deep as this model, with its codes.

    Raises:
        ConfigError: the patches do not fill the frame.
    """
    shared = {part.name for part in fields(PixelLAQConfig)} - {"frame_size", "patch_size"}
    return PixelLAQConfig(
        frame_size=frame_size,
        patch_size=patch_size,
        **{name: getattr(config, name) for name in shared},
    )
