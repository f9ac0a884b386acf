"""The sizes of a VGGT network, checked where they are made.

Defaults are those of ``facebook/VGGT-1B``; its published ``config.json`` names the first three only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import ConfigError

DPT_LEVELS = 4  # resolutions that the depth head fuses


@dataclass(frozen=True)
class VGGTConfig:
    """Sizes of every part; no field follows from another.

    Attributes:
        img_size: pixels of the square image whose patches have a stored position embedding.
        patch_size: pixels of a patch's side; height and width of an image are multiples of it.
        embed_dim: channels of the patch embedding and the aggregator; the heads see twice as many.
        depth: frame blocks, and as many global blocks, of the aggregator.
        num_heads: attention heads of the aggregator.
        mlp_ratio: hidden channels of every block's MLP over its channels.
        num_register_tokens: the aggregator's own registers in each frame, after the camera token.
        qk_norm: whether the aggregator norms queries and keys.
        rope_freq: base of the rotary position encoding's wavelengths.
        vit_depth: blocks of the patch embedding.
        vit_num_heads: its attention heads.
        vit_num_register_tokens: its registers, after the cls token.
        camera_trunk_depth: blocks of the camera head.
        camera_num_heads: its attention heads, over 2 · embed_dim channels.
        dpt_features: channels in which the depth head fuses its levels.
        dpt_out_channels: channels of each level before that.
        dpt_layers: aggregator layers, counted from 0, that feed the levels from the finest to the coarsest.
    """

    img_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float | int = 4
    num_register_tokens: int = 4
    qk_norm: bool = True
    rope_freq: float | int = 100
    vit_depth: int = 24
    vit_num_heads: int = 16
    vit_num_register_tokens: int = 4
    camera_trunk_depth: int = 4
    camera_num_heads: int = 16
    dpt_features: int = 256
    dpt_out_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    dpt_layers: tuple[int, ...] = (4, 11, 17, 23)

    def __post_init__(self) -> None:
        self._check_types()
        self._check_heads()
        self._check_depth_head()

    def _check_types(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) and field.name == "qk_norm":
                continue
            if field.name.startswith("dpt_") and field.name != "dpt_features":
                if not isinstance(value, tuple) or not all(_is_whole(entry) for entry in value):
                    raise ConfigError(f"{field.name} must be a tuple of whole numbers, got {value!r}")
            elif field.name in ("mlp_ratio", "rope_freq"):
                if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                    raise ConfigError(f"{field.name} must be a positive number, got {value!r}")
            elif not _is_whole(value) or value < (0 if field.name.endswith("register_tokens") else 1):
                raise ConfigError(f"{field.name} must be a positive whole number, got {value!r}")
        if self.img_size < self.patch_size:
            raise ConfigError(f"img_size {self.img_size} is smaller than patch_size {self.patch_size}")

    def _check_heads(self) -> None:
        for name, width in (
            ("vit_num_heads", self.embed_dim),
            ("num_heads", self.embed_dim),
            ("camera_num_heads", 2 * self.embed_dim),
        ):
            if width % getattr(self, name):
                raise ConfigError(f"{name}={getattr(self, name)} does not divide {width} channels")
        if (self.embed_dim // self.num_heads) % 4:
            raise ConfigError(
                f"a head of the aggregator has {self.embed_dim // self.num_heads} channels "
                "(embed_dim / num_heads); rotary encoding of row and column needs a multiple of 4"
            )

    def _check_depth_head(self) -> None:
        if self.dpt_features % 8:
            raise ConfigError(f"dpt_features must be divisible by 8, got {self.dpt_features}")
        for name in ("dpt_out_channels", "dpt_layers"):
            if len(getattr(self, name)) != DPT_LEVELS:
                raise ConfigError(f"{name} needs {DPT_LEVELS} entries, got {list(getattr(self, name))}")
        if any(channels < 1 or channels % 4 for channels in self.dpt_out_channels):
            raise ConfigError(
                f"dpt_out_channels must be positive and divisible by 4, got {list(self.dpt_out_channels)}"
            )
        if any(not 0 <= layer < self.depth for layer in self.dpt_layers):
            raise ConfigError(
                f"dpt_layers must be among the aggregator's layers 0 to {self.depth - 1}, "
                f"got {list(self.dpt_layers)}"
            )


def parse_config(entries: Mapping[str, Any]) -> VGGTConfig:
    """Read a configuration as it travels with weights: lists or tuples; what is not named is that of VGGT-1B.

    Raises:
        ConfigError: an entry is unknown or cannot work.
    """
    known = [field.name for field in fields(VGGTConfig)]
    unknown = [name for name in entries if name not in known]
    if unknown:
        raise ConfigError(f"VGGT has no setting {', '.join(map(str, unknown))}; it has {', '.join(known)}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()
    }
    return VGGTConfig(**values)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


VGGT_1B = VGGTConfig()
