"""Open a weights file safely, load it strictly, and say which keys disagree.

Only formats that cannot run code are opened: safetensors, and torch archives with ``weights_only=True``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import WeightsError


@dataclass(frozen=True)
class WeightsFile:
    """Tensors of one file by key, and the configuration that travelled with them, if any."""

    path: Path
    tensors: Mapping[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> WeightsFile:
    """Read ``.safetensors``, or a ``.pt`` / ``.pth`` archive (a state dict, or {config, state_dict}).

    A safetensors file may carry its configuration as JSON under the metadata key ``config``.

    Raises:
        WeightsError: the file is missing, truncated, not a weights file, or needs pickle to open.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch_archive(path)


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); fetch or copy it again"
        ) from error
    return WeightsFile(path, tensors, json.loads(metadata.get("config", "{}")))


def _read_torch_archive(path: Path) -> WeightsFile:
    try:
        # mmap keeps the peak at one tensor, not two models; it needs the zip format of torch >= 1.6.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises bare RuntimeError, UnpicklingError, EOFError, ...
        raise WeightsError(
            f"{path} cannot be opened as plain tensors; it is damaged, or it is a pickle that could run code "
            f"and is refused. Give a .safetensors file or a torch archive of tensors. ({_first_line(error)})"
        ) from error
    config: dict[str, Any] = {}
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        config, content = dict(content.get("config") or {}), content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict (names to tensors), nor one under 'state_dict'")
    return WeightsFile(path, dict(content), config)


def load_strict(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str = "weights") -> None:
    """Copy every tensor into ``network``, casting to each parameter's dtype, or change nothing and raise.

    Raises:
        WeightsError: a key is missing or unexpected, or a shape differs; the message names the keys.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in tensors]
    unexpected = [key for key in tensors if key not in own]
    reshaped = [
        f"{key} {list(tensors[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    complaints = [
        f"{name}: {_shorten(keys)}"
        for name, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped))
        if keys
    ]
    if complaints:
        raise WeightsError(f"{source} do not fit {type(network).__name__}; " + "; ".join(complaints))
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(tensors[key])


def _shorten(keys: list[str], limit: int = 5) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
