"""Everything that decides what a token is: settings, weights, and the version of the code."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from .encoder_config import EncoderConfig
from .errors import RunError
from .feature_store import differences
from .published_weights import find_concerto_weights, find_vggt_weights
from .webm_dataset import VideoDataConfig

# Raised whenever the same settings and weights would give other tokens than before.
ENCODING_VERSION = 5


def token_settings(encoder: EncoderConfig, data: VideoDataConfig) -> dict[str, Any]:
    """The settings that tokens depend on, as plain JSON values; where weights lie is not among them.

    Nor is how the work is done: that changes rounding at most (docs/conventions.md).
    """
    described = dataclasses.asdict(encoder)
    del described["vggt_weights"], described["concerto_weights"]
    del described["max_frames_per_batch"], described["vggt_compile"]
    if encoder.geometry != "vggt":
        del described["vggt_model"]
    return {
        "encoding_version": ENCODING_VERSION,
        "frame_size": data.frame_size,
        "frame_offset": data.frame_offset,
        "encoder": described,
    }


def weights_digests(encoder: EncoderConfig) -> dict[str, str]:
    """The first digits of the SHA-256 of each weights file.

    Raises:
        WeightsError: a file is missing.
    """
    files = {"concerto": find_concerto_weights(encoder.concerto_model, file=encoder.concerto_weights)}
    if encoder.geometry == "vggt":
        files["vggt"] = find_vggt_weights(encoder.vggt_model, file=encoder.vggt_weights)
    return {name: _digest(path) for name, path in sorted(files.items())}


def refuse_other_tokens(found: dict[str, Any], wanted: dict[str, Any], *, source: str, advice: str) -> None:
    """Stop before tokens of two kinds meet; only what both sides state is compared.

    Raises:
        RunError: they differ; the message says in what.
    """
    both = found.keys() & wanted.keys()
    parts = differences({name: found[name] for name in both}, {name: wanted[name] for name in both})
    if parts:
        raise RunError(f"{source} has other tokens: {'; '.join(parts)}. {advice}")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
