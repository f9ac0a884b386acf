"""A finished store, read at the speed of memory: any pairs, in any order, without holding them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int

from ..errors import DatasetError
from ..structures import UNKNOWN, PairTokens
from .layout import fingerprint, read_description, read_plan, shard_folder, token_shape
from .shard import PADDING, PairName, ShardReader, read_pairs, read_record

# Shards whose files are kept open, two files each; far below the usual limit of 1024.
MAX_OPEN_SHARDS = 256


class PairNames(Sequence[PairName]):
    """The names of a store's pairs, made when asked for: columns of numbers hold them.

    Attributes:
        videos: every video that has pairs, in the store's order.
        video_number: of each pair, the place of its video in ``videos``.
        current_index: of each pair, the frame that it starts at.
    """

    def __init__(self, table: pa.Table):
        encoded = table["video"].combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        self.videos: list[str] = encoded.dictionary.to_pylist()
        self.video_number: Int[np.ndarray, " pairs"] = encoded.indices.to_numpy()
        self.current_index: Int[np.ndarray, " pairs"] = table["current_index"].to_numpy()
        self._columns = [table[name].to_numpy() for name in table.column_names if name != "video"]

    def __len__(self) -> int:
        return len(self.video_number)

    @overload
    def __getitem__(self, pair: int) -> PairName: ...
    @overload
    def __getitem__(self, pair: slice) -> list[PairName]: ...
    def __getitem__(self, pair: int | slice) -> PairName | list[PairName]:
        if isinstance(pair, slice):
            return [self[i] for i in range(*pair.indices(len(self)))]
        current, future, current_time, future_time = (column[pair].item() for column in self._columns)
        return PairName(self.videos[self.video_number[pair]], current, future, current_time, future_time)

    def __iter__(self) -> Iterator[PairName]:
        return (self[pair] for pair in range(len(self)))


class FeatureStore:
    """All pairs of a store, numbered in the order of its plan. Nothing is written, ever.

    Attributes:
        description: what was encoded, and how.
        names: which pair each number is.
        skipped: videos that could not be encoded, and why.

    Raises:
        DatasetError: no store, one that is not finished, or a damaged shard.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.description: dict[str, Any] = read_description(self.folder)
        self._shape = token_shape(self.description)
        expected = fingerprint(self.description)
        tables: list[pa.Table] = []
        skipped: list[tuple[str, str]] = []
        self._sizes: list[int] = []
        for number in range(len(read_plan(self.folder))):
            shard = shard_folder(self.folder, number)
            try:
                record = read_record(shard, self._shape)
                if record.fingerprint != expected:
                    raise DatasetError("it is of another store")
                tables.append(read_pairs(shard, record))
            except DatasetError as error:
                fault = f"is damaged ({error})" if shard.exists() else "is not there yet"
                raise DatasetError(f"shard {shard} {fault}; run precompute again to write it") from error
            skipped += record.skipped
            self._sizes.append(record.num_pairs)
        if not sum(self._sizes):
            raise DatasetError(f"the feature store {folder} holds no pair; run precompute again")
        self.skipped = tuple(skipped)
        self.names = PairNames(pa.concat_tables(tables))
        self._shard_of = np.repeat(np.arange(len(self._sizes)), self._sizes)
        self._pair_in_shard = np.concatenate([np.arange(size) for size in self._sizes])
        self._open: OrderedDict[int, ShardReader] = OrderedDict()
        weakref.finalize(self, _close_all, self._open)  # a store has no end of its own: it ends unused

    def __len__(self) -> int:
        return len(self.names)

    @property
    def feature_channels(self) -> int:
        """Network channels of a token, without the raw geometry."""
        return int(self.description["feature_channels"])

    def read(self, pairs: Sequence[int]) -> PairTokens:
        """The tokens of these pairs; features in float16, as stored (``.to`` gives float32).

        Raises:
            DatasetError: a shard was changed since the store was opened.
        """
        shape = self._shape
        features = np.empty((len(pairs), *shape.feature_shape), np.float16)
        places = np.empty((len(pairs), shape.places_dtype.itemsize), np.uint8)
        numbers = np.asarray(pairs, dtype=np.int64)
        wanted = zip(self._shard_of[numbers].tolist(), self._pair_in_shard[numbers].tolist(), strict=True)
        for i, (shard, pair) in enumerate(wanted):
            self._shard(shard).read(pair, features=features[i], places=places[i])
        records = places.view(shape.places_dtype)[:, 0]
        state = torch.from_numpy(records["state"].astype(np.int64))
        is_padding = state == PADDING
        return PairTokens(
            feat=torch.from_numpy(features),
            state=state.masked_fill_(is_padding, UNKNOWN),
            position=torch.from_numpy(records["position"].copy()),
            is_valid=~is_padding[:, 0],
        )

    def _shard(self, number: int) -> ShardReader:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if len(self._open) >= MAX_OPEN_SHARDS:
            self._open.popitem(last=False)[1].close()
        folder = shard_folder(self.folder, number)
        reader = ShardReader(folder, self._shape, num_pairs=self._sizes[number])
        self._open[number] = reader
        return reader


def _close_all(readers: OrderedDict[int, ShardReader]) -> None:
    while readers:
        readers.popitem()[1].close()
