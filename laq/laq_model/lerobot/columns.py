"""Columns of the frames of a LeRobot dataset, as arrays by episode."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from ..errors import DatasetError
from .dataset import DATA_FILES, LeRobotDataset, parquet_files, read_table

_LISTS = (pa.types.is_list, pa.types.is_fixed_size_list, pa.types.is_large_list)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)


def read_columns(
    dataset: LeRobotDataset, names: Sequence[str], *, episodes: Collection[int]
) -> dict[str, dict[int, Float[np.ndarray, "frames dims"]]]:
    """Name → episode → a row a frame; a column of single numbers has one dimension.

    Raises:
        DatasetError: a file lacks a column or holds no numbers, or an episode lacks frames.
    """
    found: dict[str, dict[int, Float[np.ndarray, "frames dims"]]] = {name: {} for name in names}
    for path in parquet_files(dataset.root, DATA_FILES):
        table = read_table(path, ["episode_index", "frame_index", *names])
        episode, frame = (table[name].to_numpy() for name in ("episode_index", "frame_index"))
        wanted = np.intersect1d(episode, np.fromiter(episodes, np.int64))
        if not len(wanted):
            continue
        values = {name: numbers_of(table[name], f"{path}: {name}") for name in names}
        for number in wanted.tolist():
            rows = np.flatnonzero(episode == number)
            rows = rows[np.argsort(frame[rows], kind="stable")]
            if not np.array_equal(frame[rows], np.arange(len(rows))):
                raise DatasetError(f"{path}: frame_index of episode {number} does not count 0, 1, 2, ...")
            for name in names:
                found[name][number] = values[name][rows]
    for name in names:
        missing = sorted(set(episodes) - found[name].keys())
        if missing:
            raise DatasetError(f"{dataset.root}: no file of {DATA_FILES} has episode {missing[0]}")
    return found


def dimension_names(dataset: LeRobotDataset, feature: str, count: int) -> tuple[str, ...]:
    """What info.json calls the numbers of a feature; their positions where it names none, or others."""
    names = dataset.features[feature].get("names")
    if isinstance(names, dict) and len(names) == 1:  # {"motors": [...]}
        (names,) = names.values()
    if isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(str(position) for position in range(count))


def numbers_of(column: pa.ChunkedArray, what: str) -> Float[np.ndarray, "rows dims"]:
    """Lists of equally many numbers, or single numbers, as float64.

    Raises:
        DatasetError: anything else; ``what`` says where.
    """
    rows = column.combine_chunks()
    is_list = any(test(rows.type) for test in _LISTS)
    flat = rows.flatten() if is_list else rows
    dims = len(flat) // len(rows) if len(rows) else 0
    is_even = not is_list or len(pc.list_value_length(rows).unique()) <= 1
    is_number = any(test(flat.type) for test in _NUMBERS)
    if not (is_number and is_even) or rows.null_count or flat.null_count:
        raise DatasetError(f"{what} must have equally many numbers in each row, and none missing")
    values = flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(rows), dims)
    if not np.isfinite(values).all():
        raise DatasetError(f"{what} holds values that are not finite")
    return values
