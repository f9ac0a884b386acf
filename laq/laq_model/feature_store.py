"""Tokens of pairs on disk: frozen features are computed once, then read at the speed of memory.

A store is a folder: ``store.json`` (what was encoded, and how), and shards. A shard is a folder of fixed-shape
``.npy`` arrays, one row a pair (features in float16), and ``pairs.parquet``, which names the pairs. It is written
under a temporary name and renamed when whole, so a store never holds half a shard.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .errors import DatasetError, RunError
from .structures import PairTokens

FORMAT = 1
_ARRAYS = {"feat": np.float16, "state": np.int8, "position": np.float16, "is_valid": np.bool_}


@dataclass(frozen=True)
class PairName:
    """Which pair a row of the store is."""

    video: str
    current_index: int
    future_index: int
    current_time_s: float
    future_time_s: float


class FeatureStoreWriter:
    """Writes shards, one for each video; a shard that is already there is not written again."""

    def __init__(self, folder: str | Path, *, description: dict[str, Any]):
        self.folder = Path(folder)
        self.description = {"format": FORMAT, **description}
        header = self.folder / "store.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if header.exists():
                refuse_other(json.loads(header.read_text()), self.description, self.folder)
            else:
                _write_atomically(header, json.dumps(self.description, indent=2))
        except OSError as error:
            raise RunError(f"cannot write the feature store {folder}: {error.strerror}") from error

    def has(self, shard: str) -> bool:
        """Whether the shard of this name is complete."""
        return (self.folder / shard / "pairs.parquet").exists()

    def write(self, shard: str, names: Sequence[PairName], tokens: PairTokens) -> None:
        """Write one shard and make it visible in one step."""
        target, temporary = self.folder / shard, self.folder / f"{shard}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for array, dtype in _ARRAYS.items():
                np.save(temporary / f"{array}.npy", getattr(tokens, array).cpu().numpy().astype(dtype))
            pq.write_table(pa.Table.from_pylist([vars(name) for name in names]), temporary / "pairs.parquet")
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise RunError(
                f"cannot write shard {target}: {error.strerror or error}; free space and run again"
            ) from error


class FeatureStore:
    """A finished store, memory-mapped; rows are numbered through all shards in sorted order."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        header = self.folder / "store.json"
        if not header.is_file():
            raise DatasetError(
                f"{folder} is no feature store (it has no store.json); make one with precompute"
            )
        self.description: dict[str, Any] = json.loads(header.read_text())
        if self.description.get("format") != FORMAT:
            raise DatasetError(
                f"{folder} has store format {self.description.get('format')}, this version reads {FORMAT}"
            )
        self._shards: list[dict[str, np.ndarray]] = []
        self.names: list[PairName] = []
        self._row_of: list[tuple[int, int]] = []
        for parquet in sorted(self.folder.rglob("pairs.parquet")):
            if not parquet.parent.name.endswith(".tmp"):
                self._open(parquet)
        if not self.names:
            raise DatasetError(f"the feature store {folder} holds no pair; run precompute again")

    def _open(self, parquet: Path) -> None:
        names = [PairName(**row) for row in pq.read_table(parquet).to_pylist()]
        try:
            arrays = {name: np.load(parquet.parent / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"shard {parquet.parent} is damaged ({error}); delete it and run precompute again"
            ) from error
        if any(len(array) != len(names) for array in arrays.values()):
            raise DatasetError(
                f"shard {parquet.parent} is damaged (rows differ); delete it and run precompute again"
            )
        self._row_of += [(len(self._shards), row) for row in range(len(names))]
        self._shards.append(arrays)
        self.names += names

    def __len__(self) -> int:
        return len(self.names)

    @property
    def feature_channels(self) -> int:
        """Network channels of a token, without the raw geometry."""
        return int(self.description["feature_channels"])

    def read(self, rows: Sequence[int]) -> PairTokens:
        """The tokens of these rows, features in float32."""
        picked = [(self._shards[shard], row) for shard, row in (self._row_of[i] for i in rows)]

        def stack(name: str) -> torch.Tensor:
            return torch.from_numpy(np.stack([arrays[name][row] for arrays, row in picked]))

        return PairTokens(
            feat=stack("feat").float(),
            state=stack("state").long(),
            position=stack("position").float(),
            is_valid=stack("is_valid"),
        )


def refuse_other(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Raise and name what differs, if a store was made of other data, weights or settings."""
    differing = sorted(
        f"{part}: {found.get(part)!r} there, {wanted.get(part)!r} now"
        for part in {*found, *wanted}
        if found.get(part) != wanted.get(part)
    )
    if differing:
        raise RunError(
            f"{folder} was made with other settings ({'; '.join(differing)}); choose another folder"
        )


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
