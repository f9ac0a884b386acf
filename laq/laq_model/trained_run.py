"""A trained model, ready to be used: its weights, and the settings that its tokens need.

It is opened from the run folder of a training, or from what ``save_pretrained`` made of one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from .action_model.saved_model import CONFIG_FILE, WEIGHTS_FILE, read_tokens
from .checkpoint import RUN_FILE, open_run
from .concerto_laq import ConcertoLAQ
from .concerto_wrapper import build_encoder
from .encoder_config import EncoderConfig
from .encoder_fingerprint import refuse_other_tokens, token_settings, weights_digests
from .errors import RunError
from .feature_store import FeatureStore
from .pair_encoding import FileEncoder
from .webm_dataset import VideoDataConfig

Config = TypeVar("Config")


@dataclass(frozen=True)
class TrainedRun:
    """What the folder of a trained model holds.

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

    def refuse_other_store(self, store: FeatureStore, *, advice: str) -> None:
        """Stop before the model reads tokens of another kind than its own.

        Raises:
            RunError: they differ; the message says in what, then ``advice``.
        """
        self._refuse_other_tokens(store.description, f"the feature store {store.folder}", advice)

    def encoder_here(
        self, data: VideoDataConfig, *, vggt_weights: str, concerto_weights: str, advice: str
    ) -> EncoderConfig:
        """The run's encoder, with weights files of this machine where they are given.

        Raises:
            WeightsError: a weights file is missing.
            RunError: its tokens would not be the model's; the message says in what, then ``advice``.
        """
        encoder = replace(
            self.encoder,
            vggt_weights=vggt_weights or self.encoder.vggt_weights,
            concerto_weights=concerto_weights or self.encoder.concerto_weights,
        )
        described = {**token_settings(encoder, data), "weights": weights_digests(encoder)}
        self._refuse_other_tokens(described, "this installation", advice)
        return encoder

    def _refuse_other_tokens(self, found: dict[str, Any], source: str, advice: str) -> None:
        # Which pairs were taken does not change what a token is.
        own = {name: value for name, value in self.tokens.items() if name != "every_n"}
        refuse_other_tokens(found, own, source=source, advice=advice)


def open_trained_run(path: str | Path, *, device: torch.device | str = "cpu") -> TrainedRun:
    """Open a run folder, or a published model's, for use; the model is in eval mode.

    Raises:
        RunError: no run or model there, no checkpoint yet, or settings of another version.
        WeightsError: the weights are damaged or do not fit the configuration.
    """
    path = Path(path)
    is_published = not (path / RUN_FILE).exists() and (path / CONFIG_FILE).is_file()
    encoder, data, tokens = _published_settings(path) if is_published else _run_settings(path)
    weights = path / WEIGHTS_FILE
    if not weights.is_file():
        raise RunError(
            f"{path} has no weights yet (no {weights.name}); let the training reach its first checkpoint"
        )
    model = ConcertoLAQ.from_pretrained(path).to(device).eval()
    return TrainedRun(
        model=model,
        encoder=encoder,
        data=data,
        tokens=tokens,
        fingerprint=hashlib.sha256(weights.read_bytes()).hexdigest()[:12],
    )


def _run_settings(path: Path) -> tuple[EncoderConfig, VideoDataConfig, dict[str, Any]]:
    run = open_run(path)
    return (
        restore_config(EncoderConfig, run.config["encoder"], path),
        restore_config(VideoDataConfig, run.config["data"], path),
        run.record["data"].get("tokens", {}),
    )


def _published_settings(path: Path) -> tuple[EncoderConfig, VideoDataConfig, dict[str, Any]]:
    """All that decides what a token is; the rest, and where weights lie, is for this machine to say."""
    tokens = read_tokens(path)
    if not {"encoder", "frame_size", "frame_offset"} <= tokens.keys():
        raise RunError(
            f"{path} does not say which tokens its model reads (no `tokens` in {CONFIG_FILE}); give the run "
            "folder, or save ConcertoLAQ.from_pretrained(RUN_FOLDER) again"
        )
    data = {name: tokens[name] for name in ("frame_size", "frame_offset")}
    return (
        restore_config(EncoderConfig, tokens["encoder"], path),
        restore_config(VideoDataConfig, data, path),
        tokens,
    )


def restore_config(config_type: type[Config], values: dict[str, Any], path: Path) -> Config:
    """A configuration from the JSON values that a run keeps of it.

    Args:
        path: of the run, for messages.

    Raises:
        RunError: settings that this version does not know.
    """
    known = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise RunError(f"{path} was made by another version: it has the settings {', '.join(unknown)}")
    return config_type(**values)
