"""One shard: some hundred pairs in four files, written once, under a temporary name, and renamed when whole.

    feat.npy       float16 [pairs, 2, tokens, channels], zero where a frame has no point
    places.npy     one record a pair: state int8 [2, tokens] (PADDING where there is no place), position
                   float32 [tokens, 3]
    pairs.parquet  one line a pair: its name
    shard.json     the store's fingerprint, counts, checksum of each array, videos that were skipped

Every pair has the same size, so it is one range of bytes in each array, read straight to its place in a
batch. Leaving out the places where a frame has no point would save a third of the disk, and make a read
a third slower (docs/scale.md).
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
from jaxtyping import Float16, UInt8

from ..errors import DatasetError
from ..structures import PairTokens
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
    def feature_shape(self) -> tuple[int, int, int]:
        """Of one pair."""
        return 2, self.num_tokens, self.channels

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
    ]
)


class ShardWriter:
    """Fills a folder with pairs."""

    def __init__(self, folder: Path, shape: TokenShape, *, fingerprint: str):
        self._folder, self._shape, self._fingerprint = folder, shape, fingerprint
        self._features = NpyWriter(folder / FEATURES_FILE, FEATURE_DTYPE, shape.feature_shape)
        self._places = NpyWriter(folder / PLACES_FILE, shape.places_dtype, ())
        self._pairs: list[dict[str, Any]] = []
        self._skipped: list[dict[str, str]] = []

    def skip(self, video: str, reason: str) -> None:
        """Note why a video has no pairs here."""
        self._skipped.append({"video": video, "reason": reason})

    def add(self, names: Sequence[PairName], tokens: PairTokens) -> None:
        """Append pairs; tokens beyond the store's number must be padding, and are left out.

        Raises:
            DatasetError: features that float16 cannot hold, or that are not finite.
            ValueError: more places, or other channels, than the store has.
        """
        num_tokens = self._shape.num_tokens
        if bool(tokens.is_valid[:, num_tokens:].any()) or tokens.feat.shape[1:2] + tokens.feat.shape[3:] != (
            2,
            self._shape.channels,
        ):
            raise ValueError(
                f"this store holds {num_tokens} places of {self._shape.channels} channels, "
                f"got {list(tokens.feat.shape[2:])}"
            )
        is_valid = tokens.is_valid[:, :num_tokens].cpu().numpy()
        with np.errstate(over="ignore"):  # said below, with the video's name
            features = tokens.feat[:, :, :num_tokens].cpu().numpy().astype(FEATURE_DTYPE)
        if not np.isfinite(features).all():
            raise DatasetError(
                f"the encoder gave features of {names[0].video} that are not finite in float16; "
                "look for damaged frames or wrong weights"
            )
        places = np.empty(len(names), self._shape.places_dtype)
        places["state"] = np.where(is_valid[:, None], tokens.state[:, :, :num_tokens].cpu(), PADDING)
        places["position"] = tokens.position[:, :num_tokens].cpu().numpy()
        self._features.append(features)
        self._places.append(places)
        self._pairs += [asdict(name) for name in names]

    def finish(self) -> None:
        """Write what names the pairs, and close all files."""
        self._features.close()
        self._places.close()
        pq.write_table(pa.Table.from_pylist(self._pairs, PAIR_SCHEMA), self._folder / PAIRS_FILE)
        record = {
            "store": self._fingerprint,
            "num_pairs": len(self._pairs),
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
            crc32=values["crc32"],
            skipped=tuple((entry["video"], entry["reason"]) for entry in values["skipped"]),
        )
    except FileNotFoundError as error:
        raise DatasetError(f"{SHARD_FILE} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{SHARD_FILE} is damaged ({error})") from error
    for name, expected in (
        (FEATURES_FILE, file_bytes(FEATURE_DTYPE, (record.num_pairs, *shape.feature_shape))),
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
    """The names of the pairs.

    Raises:
        DatasetError: the file is missing, damaged, or does not fit the shard's record.
    """
    try:
        table = pq.read_table(folder / PAIRS_FILE, schema=PAIR_SCHEMA)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{PAIRS_FILE} is missing or damaged ({error})") from error
    if len(table) != record.num_pairs:
        raise DatasetError(f"{PAIRS_FILE} names {len(table)} pairs instead of {record.num_pairs}")
    return table


class ShardReader:
    """The two arrays of a shard, open."""

    def __init__(self, folder: Path, shape: TokenShape, *, num_pairs: int):
        self._features = NpyReader(folder / FEATURES_FILE, FEATURE_DTYPE, shape.feature_shape, num_pairs)
        self._places = NpyReader(folder / PLACES_FILE, shape.places_dtype, (), num_pairs)

    def read(
        self,
        pair: int,
        *,
        features: Float16[np.ndarray, "2 tokens channels"],
        places: UInt8[np.ndarray, " bytes"],
    ) -> None:
        """Fill the features and the bytes of the record of one pair."""
        self._features.read_into(features.data.cast("B"), row=pair)
        self._places.read_into(places.data, row=pair)

    def close(self) -> None:
        """Close both files."""
        self._features.close()
        self._places.close()
