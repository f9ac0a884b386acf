"""Named sets of defaults. A preset only changes defaults: any flag beside it still counts."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

Preset = Literal["published", "tiny", "lapa"]
PRESETS: tuple[Preset, ...] = ("published", "tiny", "lapa")

# Every configuration that has a field of this name takes the value.
_OVERRIDES: dict[str, dict[str, Any]] = {
    "published": {},
    # The embedded networks on a laptop: 112-pixel frames, and an action model that trains in minutes.
    "tiny": {
        "vggt_model": "embedded",
        "concerto_model": "embedded",
        "frame_size": 112,
        # The small VGGT hardly notices that a camera moves.
        "align_views": True,
        "max_points": 4096,
        # The room behind a table is far: with the published 90 the table would fill a quarter of the box.
        "radius_percentile": 55.0,
        # The small VGGT's depth wavers by centimetres from frame to frame, and in a box that holds half of a
        # scene a hand goes twice as far in nominal metres as in metres.
        "predicted_slack": 1.8,
        # It does not see 5 cm of depth in a hand of eight pixels; the hand's picture grows by 5 %.
        "optical_expansion": True,
        "dim": 128,
        "spatial_depth": 2,
        "temporal_depth": 2,
        "predictor_depth": 2,
    },
    # The sizes of LAPA's own quantizer (arXiv 2410.11758, §3.1) for comparison with its labels.
    "lapa": {"codebook_size": 8, "code_seq_len": 4, "quantizer_dim": 32, "frame_offset": 30},
}

Config = TypeVar("Config")


def with_preset(config: Config, preset: str) -> Config:
    """The configuration with the preset's defaults, in nested configurations too."""
    overrides = _OVERRIDES[preset]
    changes: dict[str, Any] = {}
    for field in fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if field.name == "preset":
            changes["preset"] = preset
        elif is_dataclass(value):
            changes[field.name] = with_preset(value, preset)
        elif field.name in overrides:
            changes[field.name] = overrides[field.name]
    return replace(config, **changes)  # type: ignore[type-var]
