"""What a training run is: the configurations of data, encoder and model, and how they are optimised."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..concerto_laq import ConcertoLAQConfig
from ..encoder_config import EncoderConfig
from ..errors import ConfigError
from ..presets import Preset
from ..webm_dataset import VideoDataConfig


@dataclass(frozen=True)
class OptimizationConfig:
    """Steps, rates and how often things happen; a step is one update of the weights."""

    batch_size: int = 8
    """Pairs in a step, on each process."""
    micro_batch_size: int = 0
    """Pairs that go through the model at once, to save memory (gradient accumulation); 0: all of a step's."""
    num_steps: int = 100_000
    """Updates of the weights."""
    learning_rate: float = 3e-4
    """Peak of the rate, reached after the warm-up, from where a cosine leads to zero."""
    warmup_steps: int = 100
    """Steps of the linear warm-up (at most a tenth of num_steps is used)."""
    weight_decay: float = 0.01
    """AdamW's decay of weight matrices."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """`auto`: bf16 on CUDA devices that have it, float32 elsewhere. On a CPU bf16 helps only where it has
    instructions for it (`concerto-laq doctor` says so)."""
    hard_codes_from: float = 0.5
    """Share of the training from which on every pair is predicted from its hard codes; until then their share
    grows from none. 0: from the start."""
    target_unit: Literal["channel", "overall"] = "channel"
    """What the change of a network channel is measured in: its own deviation, or one for all of them."""
    statistics_pairs: int = 256
    """Training pairs from which the target's mean and spread are measured, once, before the first step."""
    seed: int = 0
    """Seeds weights, pairs, their order and the quantizer's noise."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_steps", "statistics_pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.micro_batch_size < 0:
            raise ConfigError(f"micro_batch_size must not be negative, got {self.micro_batch_size}")
        if not 0 <= self.hard_codes_from <= 1:
            raise ConfigError(f"hard_codes_from must be 0 to 1, got {self.hard_codes_from}")
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class LoggingConfig:
    """What a run reports and keeps; nothing here changes the numbers."""

    eval_every: int = 200
    """Steps between evaluations on held-out pairs."""
    eval_pairs: int = 256
    """Held-out pairs of such an evaluation, at most."""
    save_every: int = 200
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Checkpoints kept; older ones are deleted."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    use_wandb: bool = False
    """Log to Weights & Biases too (extra [wandb]; WANDB_MODE=offline works)."""
    use_tensorboard: bool = False
    """Write TensorBoard event files into the run folder too (extra [tensorboard])."""
    use_trackio: bool = False
    """Log to Trackio's local store too; `trackio show` opens it (extra [trackio])."""

    def __post_init__(self) -> None:
        for name in ("eval_every", "eval_pairs", "save_every", "keep_checkpoints", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainConfig:
    """Train the latent action model on a folder of videos, or on a feature store made from one."""

    preset: Preset = "published"
    """Defaults of all flags: `published` weights, embedded `tiny` networks, or `lapa` sizes."""
    features: str = ""
    """A feature store (precompute) to train from, instead of encoding data_dir's videos in every step."""
    output_dir: Path = Path("runs/concerto_laq")
    """The run folder: configuration, checkpoints, metrics."""
    resume: bool = False
    """Continue the run in output_dir from its last checkpoint."""
    shuffle_pairs: bool = False
    """Train a control whose codes can tell nothing: each pair is predicted from another one's."""
    device: Literal["", "cpu", "cuda"] = ""
    """cpu or cuda; empty: the best there is."""
    data: VideoDataConfig = field(default_factory=VideoDataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    model: ConcertoLAQConfig = field(default_factory=ConcertoLAQConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        options = self.optimization
        at_once = options.micro_batch_size or options.batch_size
        if self.shuffle_pairs and 1 in (at_once, options.batch_size % at_once):
            raise ConfigError(
                "shuffle_pairs gives each pair the codes of another one of its batch, so at least two must "
                f"go through the model at once; got batch_size {options.batch_size}"
                + (f" in turns of {options.micro_batch_size}" if options.micro_batch_size else "")
            )


# What may differ between the two commands of an interrupted and resumed run. Where data and weights lie may
# change, what they are may not (that is compared by content). The pairs of a step may be shared anew over
# processes, if their number stays.
_FREE_TO_CHANGE = {
    *("resume", "logging", "device", "output_dir", "features", "optimization.batch_size"),
    *("data.data_dir", "data.num_workers", "data.decoder_patience_s"),
    *("encoder.vggt_weights", "encoder.concerto_weights"),
}


def as_json(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    plain = dataclasses.asdict(config)
    return {name: _plain(value) for name, value in plain.items()}


def differences(found: dict[str, Any], wanted: dict[str, Any], *, prefix: str = "") -> list[str]:
    """Settings that two commands of the same run disagree about, as readable lines."""
    lines = []
    for name in sorted({*found, *wanted}):
        path = f"{prefix}{name}"
        if path in _FREE_TO_CHANGE:
            continue
        there, now = found.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            lines += differences(there, now, prefix=f"{path}.")
        elif there != now:
            lines.append(f"{name} was {there!r}, is {now!r}")
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, Path) else value
