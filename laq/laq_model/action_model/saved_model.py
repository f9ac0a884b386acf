"""A saved model as it lies on disk or on the Hub: config.json beside model.safetensors."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors.torch import save_file
from torch import nn

from ..errors import RunError, WeightsError
from ..weights import load_strict, read_weights
from .config import ConcertoLAQConfig

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


def save_model(folder: Path, model: nn.Module, config: ConcertoLAQConfig) -> None:
    """Write the configuration and the weights into an existing folder."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    text = json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(text + "\n")


def saved_folder(name: str | Path, **download_options: Any) -> Path:
    """This folder if there is one; otherwise the files of that model from the Hub.

    Raises:
        RunError: neither a folder nor a model that can be had.
    """
    if Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) or str(name).startswith("."):
        raise RunError(f"no folder {name}; give a run folder, or the id of a model on the Hub (owner/name)")
    try:
        return Path(
            snapshot_download(str(name), allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **download_options)
        )
    except Exception as error:  # huggingface_hub, requests and httpx each raise their own kinds
        raise RunError(
            f"no folder {name}, and no model of that name can be had from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})"
        ) from error


def read_config(folder: Path) -> ConcertoLAQConfig:
    """The sizes of a saved model.

    Raises:
        RunError: no configuration there, or one that is damaged or of another version.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise RunError(
            f"{folder} has no {CONFIG_FILE}; give a folder that save_pretrained or a training run made"
        )
    try:
        values = json.loads(file.read_text())
        known = {part.name for part in dataclasses.fields(ConcertoLAQConfig)}
        unknown, absent = sorted(set(values) - known), sorted(known - set(values))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file} is damaged ({error})") from error
    if unknown or absent:
        raise RunError(
            f"{file} is of another version or another model: "
            f"unknown settings {unknown}, missing settings {absent}"
        )
    return ConcertoLAQConfig(**values)


def load_saved_weights(model: nn.Module, folder: Path) -> None:
    """Put a saved model's weights into a model of the same configuration.

    Raises:
        WeightsError: the weights are missing, damaged, or not of this configuration.
    """
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(
            f"{folder} has no {WEIGHTS_FILE}; give a folder that save_pretrained or a training run made"
        )
    load_strict(model, read_weights(folder / WEIGHTS_FILE).tensors, source=f"weights in {folder}")
