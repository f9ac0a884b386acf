"""Label files as others read them: Parquet, and the JSON lines of LAPA's latent pretraining.

A row of LAPA (github.com/LatentActionPretraining/LAPA, README "Latent Action Quantization") has ``delta``,
the codes as texts, beside ``id``, ``image`` and ``instruction``. Its ``vision`` are 256 tokens of LAPA's own
VQGAN, which are not made here: they stay empty, to be filled in by LAPA's script. ``image`` names the video,
``frame`` the frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DatasetError, RunError
from .label_rows import SCHEMA

LAPA_FIELDS = "[instruction],[vision],delta"


def write_parquet(output: Path, tables: Iterable[pa.Table]) -> int:
    """Write all rows to one Parquet file, whole or not at all; gives their number."""
    count = 0
    with _whole_file(output) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)
            count += len(table)
    return count


def write_lapa(output: Path, tables: Iterable[pa.Table], *, instructions: dict[str, str]) -> int:
    """Write all rows as JSON lines, whole or not at all; gives their number."""
    count = 0
    with _whole_file(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for table in tables:
            for row in table.to_pylist():
                file.write(json.dumps(lapa_row(row, instructions), ensure_ascii=False) + "\n")
                count += 1
    return count


def lapa_row(row: dict, instructions: dict[str, str]) -> dict[str, object]:
    """One label as LAPA's pretraining reads it."""
    return {
        "id": f"{row['video']}/{row['current_frame']}",
        "image": row["video"],
        "frame": row["current_frame"],
        "instruction": instructions.get(row["video"], ""),
        "vision": [],
        "delta": [str(code) for code in row["codes"]],
        "fields": LAPA_FIELDS,
    }


def read_instructions(file: str) -> dict[str, str]:
    """Texts by video; empty without a file.

    Raises:
        DatasetError: the file is missing, or is no JSON object of texts.
    """
    if not file:
        return {}
    try:
        texts = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"instructions {file} cannot be read ({error})") from error
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise DatasetError(f"instructions {file} must be a JSON object {{video: text}}")
    return texts


@contextmanager
def _whole_file(output: Path) -> Iterator[Path]:
    temporary = output.with_name(output.name + ".tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"cannot write {output} ({error.strerror or error}); the labelled parts are kept. "
            "Free space, or choose another --output, and run again"
        ) from error
