"""One shard: some hundred pairs in four files, written once, under a temporary name, and renamed when whole.

    feat.npy       float16 [rows, channels]: the features of occupied places only, pair after pair, in each
                   the current frame's before the future frame's, in the order of the places
    places.npy     one record a pair: state int8 [2, tokens] (PADDING where there is no place), position
                   float32 [tokens, 3]
    pairs.parquet  one line a pair: its name, and how many rows of feat.npy are its own
    shard.json     the store's fingerprint, counts, size and checksum of each array, videos that were skipped

A frame has features only where it has points. Leaving the rest out saves what is empty, and a pair is still
one range of bytes in each array.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float16, Int, UInt8

from ..errors import DatasetError
from ..structures import OCCUPIED, PairTokens
from .npy_stream import NpyReader, NpyWriter, file_bytes

SHARD_FILE, FEATURES_FILE, PLACES_FILE, PAIRS_FILE = "shard.json", "feat.npy", "places.npy", "pairs.parquet"
FEATURE_DTYPE = np.dtype(np.float16)
PADDING = -1  # the state of a place that is none


@dataclass(frozen=True)
class PairName:
    """Which pair a row of the store is."""

    video: str
    current_index: int
    future_index: int
    current_time_s: float
    future_time_s: float


@dataclass(frozen=True)
class TokenShape:
    """What all tokens of a store have in common."""

    num_tokens: int
    channels: int

    @property
    def places_dtype(self) -> np.dtype[Any]:
        """One record a pair."""
        return np.dtype(
            [("state", np.int8, (2, self.num_tokens)), ("position", np.float32, (self.num_tokens, 3))]
        )


PAIR_SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("current_index", pa.int32()),
        ("future_index", pa.int32()),
        ("current_time_s", pa.float64()),
        ("future_time_s", pa.float64()),
        ("num_rows", pa.int32()),
    ]
)


class ShardWriter:
    """Fills a folder with pairs."""

    def __init__(self, folder: Path, shape: TokenShape, *, fingerprint: str):
        self._folder, self._shape, self._fingerprint = folder, shape, fingerprint
        self._features = NpyWriter(folder / FEATURES_FILE, FEATURE_DTYPE, (shape.channels,))
        self._places = NpyWriter(folder / PLACES_FILE, shape.places_dtype, ())
        self._pairs: list[dict[str, Any]] = []
        self._skipped: list[dict[str, str]] = []

    def skip(self, video: str, reason: str) -> None:
        """Note why a video has no pairs here."""
        self._skipped.append({"video": video, "reason": reason})

    def add(self, names: Sequence[PairName], tokens: PairTokens) -> None:
        """Append pairs.

        Raises:
            DatasetError: features that float16 cannot hold, or that are not finite.
        """
        is_valid = tokens.is_valid.cpu().numpy()
        state = tokens.state.cpu().numpy().astype(np.int8)
        is_occupied = (state == OCCUPIED) & is_valid[:, None]
        with np.errstate(over="ignore"):  # said below, with the video's name
            features = tokens.feat.cpu().numpy()[is_occupied].astype(FEATURE_DTYPE)
        if not np.isfinite(features).all():
            raise DatasetError(
                f"the encoder gave features of {names[0].video} that are not finite in float16; "
                "look for damaged frames or wrong weights"
            )
        places = np.empty(len(names), self._shape.places_dtype)
        places["state"] = np.where(is_valid[:, None], state, PADDING)
        places["position"] = tokens.position.cpu().numpy()
        self._features.append(features)
        self._places.append(places)
        rows = is_occupied.sum(axis=(1, 2)).tolist()
        self._pairs += [{**asdict(name), "num_rows": n} for name, n in zip(names, rows, strict=True)]

    def finish(self) -> None:
        """Write what names the pairs, and close all files."""
        self._features.close()
        self._places.close()
        pq.write_table(pa.Table.from_pylist(self._pairs, PAIR_SCHEMA), self._folder / PAIRS_FILE)
        record = {
            "store": self._fingerprint,
            "num_pairs": len(self._pairs),
            "num_rows": self._features.num_rows,
            "crc32": {FEATURES_FILE: self._features.crc32, PLACES_FILE: self._places.crc32},
            "skipped": self._skipped,
        }
        (self._folder / SHARD_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self._features.__exit__(kind, error, trace)
            self._places.__exit__(kind, error, trace)


@dataclass(frozen=True)
class ShardRecord:
    """What a shard says of itself."""

    fingerprint: str
    num_pairs: int
    num_rows: int
    crc32: dict[str, int]
    skipped: tuple[tuple[str, str], ...]


def read_record(folder: Path, shape: TokenShape) -> ShardRecord:
    """The shard's record, once the sizes of its arrays fit it.

    Raises:
        DatasetError: a file is missing, truncated or of another shape.
    """
    try:
        values = json.loads((folder / SHARD_FILE).read_text(encoding="utf-8"))
        record = ShardRecord(
            fingerprint=values["store"],
            num_pairs=values["num_pairs"],
            num_rows=values["num_rows"],
            crc32=values["crc32"],
            skipped=tuple((entry["video"], entry["reason"]) for entry in values["skipped"]),
        )
    except FileNotFoundError as error:
        raise DatasetError(f"{SHARD_FILE} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{SHARD_FILE} is damaged ({error})") from error
    for name, expected in (
        (FEATURES_FILE, file_bytes(FEATURE_DTYPE, (record.num_rows, shape.channels))),
        (PLACES_FILE, file_bytes(shape.places_dtype, (record.num_pairs,))),
    ):
        try:
            found = (folder / name).stat().st_size
        except OSError as error:
            raise DatasetError(f"{name} is missing") from error
        if found != expected:
            raise DatasetError(f"{name} has {found} bytes instead of {expected}")
    return record


def read_pairs(folder: Path, record: ShardRecord) -> pa.Table:
    """The names of the pairs, and how many feature rows each has.

    Raises:
        DatasetError: the file is missing, damaged, or does not fit the shard's record.
    """
    try:
        table = pq.read_table(folder / PAIRS_FILE, schema=PAIR_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{PAIRS_FILE} is missing or damaged ({error})") from error
    num_rows = int(table["num_rows"].to_numpy().sum())
    if (len(table), num_rows) != (record.num_pairs, record.num_rows):
        raise DatasetError(f"{PAIRS_FILE} names other pairs than {SHARD_FILE}")
    return table


class ShardReader:
    """The two arrays of a shard, open."""

    def __init__(self, folder: Path, shape: TokenShape, *, num_pairs: int, num_rows: int):
        self._features = NpyReader(folder / FEATURES_FILE, FEATURE_DTYPE, (shape.channels,), num_rows)
        self._places = NpyReader(folder / PLACES_FILE, shape.places_dtype, (), num_pairs)

    def read_places(self, pair: int, out: UInt8[np.ndarray, " bytes"]) -> None:
        """Fill the bytes of one record."""
        self._places.read_into(out.data, first_row=pair)

    def read_features(self, first_row: int, out: Float16[np.ndarray, "rows channels"]) -> None:
        """Fill rows of features."""
        if out.size:
            self._features.read_into(out.data.cast("B"), first_row=first_row)

    def close(self) -> None:
        """Close both files."""
        self._features.close()
        self._places.close()


def first_rows(num_rows: Int[np.ndarray, " pairs"]) -> Int[np.ndarray, " pairs"]:
    """Where each pair's rows begin in feat.npy."""
    return np.concatenate([[0], np.cumsum(num_rows)[:-1]]) if len(num_rows) else np.zeros(0, np.int64)
