"""Known actions of any videos: a table beside them, one row a frame.

``actions.parquet`` has ``video`` (path relative to the folder), ``frame`` (number, from 0), and some of

- ``action``: list of numbers, the command from this frame to the next;
- ``position_m``: list of three numbers, where the hand (or whatever acts) is in this frame, metres;
- ``gripper_open``: number, 0 closed to 1 open.

A pair's command is the mean over its frames, its motion the difference of its two frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from ..errors import DatasetError
from ..feature_store import PairName

ACTIONS_FILE = "actions.parquet"
_COLUMNS = ("action", "position_m", "gripper_open")


def read_action_table(
    data_dir: Path, names: Sequence[PairName]
) -> dict[str, tuple[Float[np.ndarray, "pairs dims"], tuple[str, ...]]]:
    """Target name → its values for these pairs, and the names of its dimensions.

    Raises:
        DatasetError: the table is damaged, has none of the columns, or lacks frames of a video.
    """
    path = data_dir / ACTIONS_FILE
    try:
        table = pq.read_table(path)
        row_of = {
            (video, frame): row
            for row, (video, frame) in enumerate(
                zip(table["video"].to_pylist(), table["frame"].to_pylist(), strict=True)
            )
        }
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or lacks the columns video and frame ({error})") from error
    columns = {name: _numbers(table, name, path) for name in _COLUMNS if name in table.column_names}
    if not columns:
        raise DatasetError(f"{path} has none of the columns {', '.join(_COLUMNS)} (docs/data-formats.md)")
    found: dict[str, tuple[Float[np.ndarray, "pairs dims"], tuple[str, ...]]] = {}
    if "position_m" in columns:
        found["ee_displacement"] = (_difference(columns["position_m"], names, row_of, path), ("x", "y", "z"))
    if "gripper_open" in columns:
        found["gripper"] = (_difference(columns["gripper_open"], names, row_of, path), ("opening",))
    if "action" in columns:
        values = columns["action"]
        mean = [
            values[
                [
                    _row(row_of, name.video, frame, path)
                    for frame in range(name.current_index, name.future_index)
                ]
            ].mean(0)
            for name in names
        ]
        found["action"] = (np.stack(mean), tuple(str(i) for i in range(values.shape[1])))
    return found


def _numbers(table: pa.Table, name: str, path: Path) -> Float[np.ndarray, "rows dims"]:
    try:
        values = np.array(table[name].to_pylist(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{path}: {name} must have equally many numbers in each row ({error})") from error
    values = values[:, None] if values.ndim == 1 else values
    if not np.isfinite(values).all():
        raise DatasetError(f"{path}: {name} holds values that are missing or not finite")
    if name == "position_m" and values.shape[1] != 3:
        raise DatasetError(f"{path}: position_m must have 3 numbers in each row, got {values.shape[1]}")
    return values


def _difference(
    values: Float[np.ndarray, "rows dims"],
    names: Sequence[PairName],
    row_of: dict[tuple[str, int], int],
    path: Path,
) -> Float[np.ndarray, "pairs dims"]:
    future = [_row(row_of, name.video, name.future_index, path) for name in names]
    current = [_row(row_of, name.video, name.current_index, path) for name in names]
    return values[future] - values[current]


def _row(row_of: dict[tuple[str, int], int], video: str, frame: int, path: Path) -> int:
    if (video, frame) not in row_of:
        raise DatasetError(f"{path} has no row for frame {frame} of {video}")
    return row_of[video, frame]
