"""A run that takes a second: the synthetic store, a tiny model, twenty steps."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from laq_model.concerto_laq import ConcertoLAQConfig
from laq_model.training.config import LoggingConfig, OptimizationConfig, TrainConfig
from laq_model.video.config import VideoDataConfig
from synthetic_store import write_store

MODEL = ConcertoLAQConfig(
    dim=16,
    codebook_size=8,
    code_seq_len=2,
    spatial_depth=1,
    temporal_depth=1,
    predictor_depth=1,
    num_heads=2,
    quantizer_dim=4,
    num_changed_tokens=8,
    num_context_tokens=8,
    num_query_tokens=8,
)


def tiny_config(store: Path, output_dir: Path, **changes: Any) -> TrainConfig:
    """``changes`` by the name of the field, wherever it is."""
    config = TrainConfig(
        features=str(store),
        output_dir=output_dir,
        device="cpu",
        data=VideoDataConfig(frame_size=112, held_out_fraction=0.3),
        model=MODEL,
        optimization=OptimizationConfig(batch_size=4, num_steps=20, learning_rate=1e-3),
        logging=LoggingConfig(eval_every=8, save_every=5, log_every=1),
    )
    for name, value in changes.items():
        config = _with(config, name, value)
    return config


def _with(config: Any, name: str, value: Any) -> Any:
    if hasattr(config, name):
        return replace(config, **{name: value})
    for part in ("data", "model", "optimization", "logging"):
        if hasattr(getattr(config, part), name):
            return replace(config, **{part: replace(getattr(config, part), **{name: value})})
    raise AttributeError(name)


def small_store(folder: Path) -> Path:
    return write_store(folder, num_videos=6, pairs_each=8)


def start_python(script: str, **options: Any) -> subprocess.Popen[str]:
    """A process of its own in which the test's modules can be imported."""
    lines = f"import sys\nsys.path[:0] = {sys.path!r}\n{script}"
    return subprocess.Popen(
        [sys.executable, "-c", lines],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def state_of(run: Path) -> dict[str, Any]:
    """Everything that two equal runs have in common, bit for bit."""
    newest = sorted((run / "checkpoints").glob("step_*"))[-1]
    optimizer = torch.load(newest / "optimizer.pt", weights_only=True)
    return {
        "step": newest.name,
        "metrics": (run / "metrics.jsonl").read_text(),
        "weights": {key: value.tolist() for key, value in load_file(run / "model.safetensors").items()},
        "saved": {key: value.tolist() for key, value in load_file(newest / "model.safetensors").items()},
        "moments": {
            f"{parameter}.{name}": value.tolist()
            for parameter, moments in optimizer["state"].items()
            for name, value in moments.items()
        },
        "groups": optimizer["param_groups"],
    }
