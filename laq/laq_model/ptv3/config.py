"""The configuration that travels with a Concerto or Sonata checkpoint, checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from .serialization import CURVES


@dataclass(frozen=True)
class PTv3Config:
    """Sizes of the encoder; the defaults are those of ``concerto_base``.

    Attributes:
        in_channels: channels of a point, x y z | r g b | normal in the published models.
        order: curves along which points are serialized; block i of a stage uses number i modulo their count.
        stride: cells that one pooled cell spans along each axis, for each stage but the first.
        enc_depths: blocks of each stage.
        enc_channels: channels of each stage.
        enc_num_head: attention heads of each stage.
        enc_patch_size: points that attend to one another, for each stage.
        mlp_ratio: hidden channels of a block's MLP over its channels.
        qk_scale: factor on query·key; None is 1 / √(channels of a head).
        attn_drop: share of attention weights dropped in training.
        proj_drop: share of channels dropped in training after the attention projection and in the MLP.
        drop_path: share of points whose branch is dropped in training; rises from 0 at the first block.
        layer_scale: start value of a learned factor on both branches of a block; None has no such factor.
        mask_token: whether there is a learned embedding for masked points.
    """

    in_channels: int = 9
    order: tuple[str, ...] = ("z", "z-trans", "hilbert", "hilbert-trans")
    stride: tuple[int, ...] = (2, 2, 2, 2)
    enc_depths: tuple[int, ...] = (3, 3, 3, 12, 3)
    enc_channels: tuple[int, ...] = (48, 96, 192, 384, 512)
    enc_num_head: tuple[int, ...] = (3, 6, 12, 24, 32)
    enc_patch_size: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    drop_path: float = 0.3
    layer_scale: float | None = None
    mask_token: bool = True

    def __post_init__(self) -> None:
        stages = len(self.enc_depths)
        if stages == 0:
            raise ConfigError("enc_depths names no stage; give one block count for each stage")
        for name in ("enc_channels", "enc_num_head", "enc_patch_size"):
            if len(getattr(self, name)) != stages:
                raise ConfigError(
                    f"{name} has {len(getattr(self, name))} entries for {stages} stages of enc_depths"
                )
        if len(self.stride) != stages - 1:
            raise ConfigError(f"stride has {len(self.stride)} entries; {stages} stages need {stages - 1}")
        for name in ("stride", "enc_channels", "enc_num_head", "enc_patch_size"):
            if any(entry < 1 for entry in getattr(self, name)):
                raise ConfigError(f"{name} must be positive, got {list(getattr(self, name))}")
        if self.in_channels < 1 or self.mlp_ratio <= 0 or any(depth < 0 for depth in self.enc_depths):
            raise ConfigError("in_channels and mlp_ratio must be positive, and enc_depths not negative")
        for channels, heads in zip(self.enc_channels, self.enc_num_head, strict=True):
            if channels % heads:
                raise ConfigError(f"{heads} heads do not divide {channels} channels")
        if not self.order or any(name not in CURVES for name in self.order):
            raise ConfigError(f"order must name curves of {', '.join(CURVES)}; got {list(self.order)}")
        for name in ("attn_drop", "proj_drop", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")


# What the published code can also build and this encoder does not: (entry, the value that is supported).
_FIXED_ENTRIES: tuple[tuple[str, bool], ...] = (("pre_norm", True), ("enable_rpe", False), ("enc_mode", True))


def parse_config(entries: Mapping[str, Any]) -> PTv3Config:
    """Read a checkpoint's ``config``: lists or tuples; entries that change no result are passed over.

    Raises:
        ConfigError: an entry cannot work, or asks for a variant without published weights.
    """
    for name, supported in _FIXED_ENTRIES:
        if bool(entries.get(name, supported)) is not supported:
            raise ConfigError(
                f"{name}={entries[name]} is not supported; the published encoders have {supported}"
            )
    names = PTv3Config.__dataclass_fields__
    known = {name: _as_tuple(value) for name, value in entries.items() if name in names}
    for name in ("mlp_ratio", "qk_scale", "attn_drop", "proj_drop", "drop_path", "layer_scale"):
        if known.get(name) is not None:
            known[name] = float(known[name])
    if isinstance(known.get("order"), str):
        known["order"] = (known["order"],)
    return PTv3Config(**known)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value
