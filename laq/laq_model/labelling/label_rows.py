"""Labels as Arrow rows, one a pair, and the parts on disk that they are gathered in.

Columns: video, current_frame, future_frame, current_time_s, future_time_s, codes, vector (the codes' vectors,
joined), prediction_error (of the change predicted from the codes, over standardised channels), copy_error (of
predicting no change; their ratio is the pair's copy ratio), model (fingerprint of the weights).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..concerto_laq import ConcertoLAQ
from ..durable_files import write_atomically
from ..errors import RunError
from ..feature_store import PairName
from ..structures import PairTokens

SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("current_frame", pa.int32()),
        ("future_frame", pa.int32()),
        ("current_time_s", pa.float64()),
        ("future_time_s", pa.float64()),
        ("codes", pa.list_(pa.int32())),
        ("vector", pa.list_(pa.float32())),
        ("prediction_error", pa.float32()),
        ("copy_error", pa.float32()),
        ("model", pa.string()),
    ]
)
_SKIPPED = b"skipped"


def label_rows(
    model: ConcertoLAQ, names: Sequence[PairName], tokens: PairTokens, *, fingerprint: str
) -> pa.Table:
    """The rows of these pairs, with the hard codes of the model."""
    action = model.encode(tokens)
    return pa.table(
        {
            "video": [name.video for name in names],
            "current_frame": [name.current_index for name in names],
            "future_frame": [name.future_index for name in names],
            "current_time_s": [name.current_time_s for name in names],
            "future_time_s": [name.future_time_s for name in names],
            "codes": action.codes.cpu().tolist(),
            "vector": action.vectors.flatten(1).cpu().tolist(),
            "prediction_error": model.prediction_error(tokens, action.codes).cpu().tolist(),
            "copy_error": model.copy_error(tokens).cpu().tolist(),
            "model": [fingerprint] * len(names),
        },
        schema=SCHEMA,
    )


def write_part(path: Path, rows: Sequence[pa.Table], skipped: Sequence[tuple[str, str]]) -> None:
    """Write the rows of a part, and which videos it lacks, whole or not at all.

    Raises:
        RunError: the disk is full or cannot be written; the other parts are untouched.
    """
    table = pa.concat_tables(rows) if rows else SCHEMA.empty_table()
    table = table.replace_schema_metadata({_SKIPPED: json.dumps(list(skipped)).encode()})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    try:
        write_atomically(path, buffer.getvalue().to_pybytes())
    except OSError as error:
        raise RunError(
            f"cannot write labels to {path.parent} ({error.strerror or error}); the parts before are kept. "
            "Free space and run again"
        ) from error


def read_part(path: Path) -> tuple[pa.Table, list[tuple[str, str]]]:
    """The rows of a part, and the videos that it lacks."""
    table = pq.read_table(path)
    skipped = json.loads(table.schema.metadata[_SKIPPED])
    return table.cast(SCHEMA), [(video, reason) for video, reason in skipped]
