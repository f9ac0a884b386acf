"""Labels on disk: one Parquet row a pair.

Columns: video, current_frame, future_frame, current_time_s, future_time_s, codes (list of int16), vector (list of
float32, the codes' vectors joined), prediction_error (mean squared error of the predicted change over the error of
predicting none), model (fingerprint of the weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from torch import Tensor

from ..errors import RunError
from ..feature_store import PairName
from ..structures import LatentAction

SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("current_frame", pa.int32()),
        ("future_frame", pa.int32()),
        ("current_time_s", pa.float64()),
        ("future_time_s", pa.float64()),
        ("codes", pa.list_(pa.int16())),
        ("vector", pa.list_(pa.float32())),
        ("prediction_error", pa.float32()),
        ("model", pa.string()),
    ]
)


def label_table(
    names: Sequence[PairName],
    action: LatentAction,
    prediction_error: Float[Tensor, " pairs"],
    *,
    model: str,
) -> pa.Table:
    """The rows of these pairs."""
    return pa.table(
        {
            "video": [name.video for name in names],
            "current_frame": [name.current_index for name in names],
            "future_frame": [name.future_index for name in names],
            "current_time_s": [name.current_time_s for name in names],
            "future_time_s": [name.future_time_s for name in names],
            "codes": action.codes.cpu().tolist(),
            "vector": action.vectors.flatten(1).cpu().tolist(),
            "prediction_error": prediction_error.cpu().tolist(),
            "model": [model] * len(names),
        },
        schema=SCHEMA,
    )


def write_part(table: pa.Table, path: Path) -> None:
    """Write the rows of one video, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write labels to {path.parent} ({error.strerror or error}); the parts already there are kept"
        ) from error


def merge_parts(parts: Sequence[Path], output: Path) -> int:
    """Join the parts, in order, into one file; gives the number of rows."""
    temporary = output.with_name(output.name + ".tmp")
    rows = 0
    try:
        with pq.ParquetWriter(temporary, SCHEMA) as writer:
            for part in parts:
                table = pq.read_table(part, schema=SCHEMA)
                writer.write_table(table)
                rows += len(table)
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {output} ({error.strerror or error}); choose another --output"
        ) from error
    return rows
