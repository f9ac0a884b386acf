"""A trained run, ready to be used: the model with its weights, and the settings that its tokens need."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from .checkpoint import open_run
from .concerto_laq import ConcertoLAQ
from .concerto_wrapper import EncoderConfig, build_encoder
from .errors import RunError
from .pair_encoding import FileEncoder
from .webm_dataset import VideoDataConfig

Config = TypeVar("Config")


@dataclass(frozen=True)
class TrainedRun:
    """What a run folder holds.

    Attributes:
        tokens: what the tokens were that the model was trained on (see encoder_fingerprint.py).
        fingerprint: the first digits of the SHA-256 of the weights file.
    """

    model: ConcertoLAQ
    encoder: EncoderConfig
    data: VideoDataConfig
    tokens: dict[str, Any]
    fingerprint: str

    def video_encoder(self, *, every_n: int = 1, batch_size: int = 8) -> FileEncoder:
        """What ``model.encode_video`` needs: the networks of the run's tokens, on the model's device.

        Args:
            every_n: frames between the starts of neighbouring pairs.
            batch_size: pairs encoded at once.

        Raises:
            LAQError: their weights are missing or cannot be fetched.
        """
        device = self.model.feature_mean.device
        encoder = build_encoder(self.encoder, device=device)
        return FileEncoder(encoder, self.data, every_n=every_n, batch_size=batch_size, device=device)


def open_trained_run(path: str | Path, *, device: torch.device | str = "cpu") -> TrainedRun:
    """Open a run folder for use; the model is in eval mode.

    Raises:
        RunError: no run there, no checkpoint yet, or settings of another version.
        WeightsError: the weights are damaged or do not fit the configuration.
    """
    run = open_run(path)
    weights = run.path / "model.safetensors"
    if not weights.is_file():
        raise RunError(
            f"{path} has no weights yet (no {weights.name}); let the training reach its first checkpoint"
        )
    model = ConcertoLAQ.from_pretrained(run.path).to(device).eval()
    return TrainedRun(
        model=model,
        encoder=_restore(EncoderConfig, run.config["encoder"], run.path),
        data=_restore(VideoDataConfig, run.config["data"], run.path),
        tokens=run.record["data"].get("tokens", {}),
        fingerprint=hashlib.sha256(weights.read_bytes()).hexdigest()[:12],
    )


def _restore(config_type: type[Config], values: dict[str, Any], path: Path) -> Config:
    known = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise RunError(f"{path} was made by another version: it has the settings {', '.join(unknown)}")
    return config_type(**values)
