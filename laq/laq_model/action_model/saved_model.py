"""A saved model as it lies on disk or on the Hub: config.json and README.md beside model.safetensors.

config.json holds its format's number, the settings of the model, and under ``tokens`` what the model reads.
"""

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
from .model_card import CARD_FILE, Origin, card_of, read_origin

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
# Raised whenever a setting comes, goes or changes its meaning; NEW_SETTINGS then says what older files mean.
FORMAT = 1
# Format → the settings that it brought, with the values that stand for what models did before.
NEW_SETTINGS: dict[int, dict[str, Any]] = {
    1: {"motion_weight": 0.0},  # the first with a number; models before it were told nothing of motion
}


def save_model(folder: Path, model: nn.Module, config: Any, *, with_card: bool = True) -> None:
    """Write configuration, weights and model card into an existing folder.

    Where the model comes from (see ``load_saved_weights``) is written with it.

    Args:
        config: dataclass of the model's sizes; a model card is for a ``ConcertoLAQConfig`` only.

    Raises:
        RunError: the model is of a run whose record is of another version, so no card can be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    origin = getattr(model, "origin", None) or Origin()
    settings = {"format": FORMAT, **dataclasses.asdict(config)}
    if origin.tokens:
        settings["tokens"] = dict(origin.tokens)
    (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    if with_card:
        (folder / CARD_FILE).write_text(card_of(origin, config), encoding="utf-8")


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
            snapshot_download(
                str(name), allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, CARD_FILE], **download_options
            )
        )
    except Exception as error:  # huggingface_hub, requests and httpx each raise their own kinds
        raise RunError(
            f"no folder {name}, and no model of that name can be had from the Hub "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})"
        ) from error


def read_config(folder: Path) -> ConcertoLAQConfig:
    """The sizes of a saved model, of this format or an older one.

    Raises:
        RunError: no configuration there, or one that is damaged, newer, or of another model.
    """
    file = folder / CONFIG_FILE
    values = _read(file)
    found = values.pop("format", 0)
    values.pop("tokens", None)
    if not isinstance(found, int) or not 0 <= found <= FORMAT:
        raise RunError(
            f"{file} is of format {found}, this version reads 0 to {FORMAT}; install a newer concerto-laq"
        )
    for newer in range(found + 1, FORMAT + 1):
        values = {**NEW_SETTINGS[newer], **values}
    known = {part.name for part in dataclasses.fields(ConcertoLAQConfig)}
    unknown, absent = sorted(set(values) - known), sorted(known - set(values))
    if unknown or absent:
        raise RunError(
            f"{file} is of another version or another model: "
            f"unknown settings {unknown}, missing settings {absent}"
        )
    return ConcertoLAQConfig(**values)


def read_tokens(folder: Path) -> dict[str, Any]:
    """What the tokens are that a saved model reads; empty if its config.json does not say.

    Raises:
        RunError: no configuration there, or one that is damaged.
    """
    return _read(folder / CONFIG_FILE).get("tokens", {})


def load_saved_weights(model: nn.Module, folder: Path) -> None:
    """Put a saved model's weights into a model of the same configuration.

    From where they come is kept as ``model.origin``, so that the model can be published with its card.

    Raises:
        WeightsError: the weights are missing, damaged, or not of this configuration.
        RunError: the record beside them is damaged.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise WeightsError(
            f"{folder} has no {WEIGHTS_FILE}; give a folder that save_pretrained or a training run made"
        )
    load_strict(model, read_weights(weights).tensors, source=f"weights in {folder}")
    origin = read_origin(folder, weights=weights, tokens=read_tokens(folder))
    model.origin = origin  # type: ignore[assignment]  # torch's types know modules and tensors only


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise RunError(
            f"{file.parent} has no {file.name}; give a folder that save_pretrained or a training run made"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error})") from error
    if not isinstance(values, dict):
        raise RunError(f"{file} is damaged (it holds no settings)")
    return values
