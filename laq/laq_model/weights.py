"""Open a weights file safely, load it strictly, and say which keys disagree.

Only formats that cannot run code are opened: safetensors (one file, or shards with an index), and torch
archives with ``weights_only=True``. Tensors are read one at a time, when they are asked for, so loading needs
the memory of the network and little more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import WeightsError

INDEX_SUFFIX = ".safetensors.index.json"
GIT_LFS_START = b"version https://git-lfs"
# Both formats are mapped into memory, and what was read stays resident until the file is closed: it is closed
# and opened again each time that so much was read.
MAPPED_BYTES = 256 * 2**20

_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _SafetensorsFile:
    def __init__(self, path: Path):
        self.path = path
        self._handle: Any = None
        self._bytes_read = 0
        try:
            with safe_open(path, framework="pt") as handle:
                self.metadata: dict[str, str] = handle.metadata() or {}
                self.stubs = {key: _stub(handle.get_slice(key)) for key in handle.keys()}  # noqa: SIM118
            self.config: dict[str, Any] = json.loads(self.metadata.get("config", "{}"))
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{path} is not a whole safetensors file ({_first_line(error)}); fetch or copy it again"
            ) from error

    def read(self, key: str) -> Tensor:
        if self._handle is None:
            self._handle, self._bytes_read = safe_open(self.path, framework="pt"), 0
        tensor = self._handle.get_tensor(key).clone()
        self._bytes_read += tensor.nbytes
        if self._bytes_read > MAPPED_BYTES:
            self._handle = None
        return tensor


class _TorchArchive:
    def __init__(self, path: Path):
        self.path = path
        self.config: dict[str, Any] = {}
        self._content: Mapping[str, Tensor] | None = self._open()
        self._bytes_read = 0
        self.stubs = {key: torch.empty_like(value, device="meta") for key, value in self._content.items()}

    def read(self, key: str) -> Tensor:
        if self._content is None:
            self._content, self._bytes_read = self._open(), 0
        tensor = self._content[key].clone()
        self._bytes_read += tensor.nbytes
        if self._bytes_read > MAPPED_BYTES:
            self._content = None
        return tensor

    def _open(self) -> Mapping[str, Tensor]:
        try:
            # mmap reads a tensor when it is looked at; it needs the zip format of torch >= 1.6.
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # torch raises bare RuntimeError, UnpicklingError, EOFError, ...
            raise WeightsError(
                f"{self.path} cannot be opened as plain tensors; it is damaged, or it is a pickle that could "
                f"run code and is refused. Give a .safetensors file or a torch archive of tensors. "
                f"({_first_line(error)})"
            ) from error
        for name in ("state_dict", "model"):
            if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
                self.config, content = dict(content.get("config") or {}), content[name]
        if not isinstance(content, Mapping) or not all(
            isinstance(value, Tensor) for value in content.values()
        ):
            raise WeightsError(
                f"{self.path} holds no state dict (names to tensors), nor one under 'state_dict'"
            )
        return content


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of one or several files by key, read from disk at each access."""

    def __init__(self, stubs: Mapping[str, Tensor], archives: Mapping[str, _SafetensorsFile | _TorchArchive]):
        """Take the shape and type of each tensor (on the meta device), and the file that holds it."""
        self._stubs, self._archives = stubs, archives

    def __getitem__(self, key: str) -> Tensor:
        return self._archives[key].read(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stubs)

    def __len__(self) -> int:
        return len(self._stubs)

    def stub(self, key: str) -> Tensor:
        """Shape and type of a tensor, without its numbers."""
        return self._stubs[key]


@dataclass(frozen=True)
class WeightsFile:
    """Tensors of one file (or of an index of shards) by key, and what travelled with them.

    Attributes:
        config: the network's configuration; empty if the file carries none.
        licence: the licence that the file names; empty if it names none.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)
    licence: str = ""


def read_weights(path: str | Path) -> WeightsFile:
    """Open ``.safetensors``, its ``.safetensors.index.json``, or a ``.pt`` / ``.pth`` archive of tensors.

    A torch archive holds a state dict, or {config, state_dict}, or {model: state dict}. A safetensors file
    may carry its configuration as JSON under the metadata key ``config``.

    Raises:
        WeightsError: the file is missing, truncated, not a weights file, or needs pickle to open.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}")
    if path.name.endswith(INDEX_SUFFIX):
        return _open_shards(path)
    with path.open("rb") as file:
        is_pointer = file.read(len(GIT_LFS_START)) == GIT_LFS_START
    if is_pointer:
        raise WeightsError(
            f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` where it is from"
        )
    if path.suffix != ".safetensors":
        archive = _TorchArchive(path)
        return WeightsFile(path, _stored(archive), archive.config)
    shard = _SafetensorsFile(path)
    return WeightsFile(path, _stored(shard), shard.config, shard.metadata.get("licence", ""))


def _stored(archive: _SafetensorsFile | _TorchArchive) -> StoredTensors:
    return StoredTensors(archive.stubs, dict.fromkeys(archive.stubs, archive))


def _open_shards(index: Path) -> WeightsFile:
    names = shard_names(index)
    stubs: dict[str, Tensor] = {}
    archives: dict[str, _SafetensorsFile | _TorchArchive] = {}
    config: dict[str, Any] = {}
    for name in dict.fromkeys(names.values()):
        if not (index.parent / name).is_file():
            raise WeightsError(f"{index} names {name}, which is not beside it; fetch every shard")
        shard = _SafetensorsFile(index.parent / name)
        config |= shard.config
        for key in [key for key, own in names.items() if own == name]:
            if key not in shard.stubs:
                raise WeightsError(f"{index} places {key} in {name}, which does not hold it")
            stubs[key], archives[key] = shard.stubs[key], shard
    return WeightsFile(index, StoredTensors(stubs, archives), config)


def shard_names(index: str | Path) -> dict[str, str]:
    """The file of each key, from a ``.safetensors.index.json``; files lie beside the index.

    Raises:
        WeightsError: it is no such index, or it names a file of another folder.
    """
    try:
        names = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        is_plain = all(Path(name).name == name for name in names.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index} is not an index of safetensors shards") from error
    if not is_plain:
        raise WeightsError(f"{index} names files outside its own folder")
    return names


def load_strict(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str = "weights",
    dropped_prefixes: tuple[str, ...] = (),
) -> None:
    """Copy every tensor into ``network``, casting to each parameter's type, or change nothing and raise.

    A parameter on the meta device takes its tensor as it is, with its type, and copies nothing.

    Args:
        dropped_prefixes: starts of keys that may be there and are not read.

    Raises:
        WeightsError: a key is missing or unexpected, or a shape or kind of number differs; the message says
            which.
    """
    own = network.state_dict()
    stubs = {
        key: tensors.stub(key) if isinstance(tensors, StoredTensors) else tensors[key]
        for key in tensors
        if not (dropped_prefixes and key.startswith(dropped_prefixes))
    }
    both = [key for key in own if key in stubs]
    complaints = {
        "missing": [key for key in own if key not in stubs],
        "unexpected": [key for key in stubs if key not in own],
        "wrong shape": [
            f"{key} {list(stubs[key].shape)} instead of {list(own[key].shape)}"
            for key in both
            if stubs[key].shape != own[key].shape
        ],
        "wrong type": [
            f"{key} {stubs[key].dtype} instead of {own[key].dtype}"
            for key in both
            if stubs[key].is_floating_point() != own[key].is_floating_point()
        ],
    }
    said = [f"{name}: {_shorten(keys)}" for name, keys in complaints.items() if keys]
    if said:
        raise WeightsError(f"{source} do not fit {type(network).__name__}; " + "; ".join(said))
    with torch.no_grad():
        for key, value in own.items():
            if value.is_meta:
                _take(network, key, tensors[key])
            else:
                value.copy_(tensors[key])


def _take(network: nn.Module, key: str, tensor: Tensor) -> None:
    owner_name, _, name = key.rpartition(".")
    owner = network.get_submodule(owner_name)
    parameters = dict(owner.named_parameters(recurse=False))
    if name in parameters:
        tensor = nn.Parameter(tensor, requires_grad=parameters[name].requires_grad)
    setattr(owner, name, tensor)


def _stub(stored: Any) -> Tensor:
    return torch.empty(
        stored.get_shape(), dtype=_SAFETENSORS_TYPES[stored.get_dtype()], device=torch.device("meta")
    )


def _shorten(keys: list[str], limit: int = 5) -> str:
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
