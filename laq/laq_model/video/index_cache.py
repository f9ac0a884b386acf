"""The index of a folder on disk: what decoding every video once has shown, for as long as the files stay.

One Parquet file, written under a temporary name and renamed. It lies in the data folder, so that it goes
where the videos go; where that cannot be written, in the user's cache folder. Layout: docs/data-formats.md.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .frame_table import FrameTable

FORMAT = "1"
FILE_NAME = ".concerto-laq-index.parquet"
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("num_frames", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("pts", pa.list_(pa.int64())),
        ("time_base", pa.string()),
        ("rate", pa.string()),
        ("keyframes", pa.list_(pa.int32())),
        ("damage", pa.string()),
    ],
    metadata={"format": FORMAT},
)


@dataclass(frozen=True)
class FileState:
    """What changes when a file does."""

    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The file as it is now.

        Raises:
            OSError: there is none.
        """
        stat = path.stat()
        return cls(stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True)
class ScannedVideo:
    """The frames of a video, and the state of the file in which they were found."""

    file: FileState
    frames: FrameTable


def read_cache(root: Path) -> dict[str, ScannedVideo]:
    """Everything cached for the folder; nothing if there is no cache that this version can read.

    Where both places hold one, the newer file counts: the other is left from when that place could be
    written.
    """
    found: dict[str, ScannedVideo] = {}
    for path in sorted(filter(Path.is_file, cache_paths(root)), key=lambda path: path.stat().st_mtime_ns):
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            continue  # a cache is only a memory: without it every video is decoded again
        if table.schema.equals(_SCHEMA) and (table.schema.metadata or {}).get(b"format") == FORMAT.encode():
            found |= _to_videos(table)
    return found


def write_cache(root: Path, videos: Mapping[str, ScannedVideo]) -> Path | None:
    """Write the cache whole, in the first place that can be written; gives it, or None if there is none.

    Videos that are gone are forgotten.
    """
    videos = {name: video for name, video in videos.items() if (root / name).exists()}
    table = pa.Table.from_pylist([_to_row(name, videos[name]) for name in sorted(videos)], schema=_SCHEMA)
    for path in cache_paths(root):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{FILE_NAME}.")
        except OSError:
            continue
        try:
            with os.fdopen(handle, "wb") as file:
                pq.write_table(table, file, compression="zstd")
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            continue
        return path
    return None


def cache_paths(root: Path) -> list[Path]:
    """Where the folder's cache may lie, best first."""
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return [root / FILE_NAME, home / "concerto-laq" / f"index-{digest}.parquet"]


def _to_row(name: str, video: ScannedVideo) -> dict[str, object]:
    arrays = {name: np.asarray(getattr(video.frames, name)) for name in ("pts", "keyframes")}
    fractions = {name: str(getattr(video.frames, name)) for name in ("time_base", "rate")}
    return {"name": name, **vars(video.file), **vars(video.frames), **arrays, **fractions}


def _to_videos(table: pa.Table) -> dict[str, ScannedVideo]:
    # A million frames as Python's numbers would fill the memory, so time stamps stay packed.
    stamps = table["pts"].combine_chunks()
    values, ends = stamps.values.to_numpy(zero_copy_only=False), stamps.offsets.to_numpy()
    rows = table.drop_columns(["pts"]).to_pylist()
    return {
        row["name"]: _to_video(row, array("q", values[first:end].tobytes()))
        for row, first, end in zip(rows, ends[:-1], ends[1:], strict=True)
    }


def _to_video(row: dict[str, Any], pts: array) -> ScannedVideo:
    return ScannedVideo(
        file=FileState(row["size_bytes"], row["modified_ns"]),
        frames=FrameTable(
            num_frames=row["num_frames"],
            width=row["width"],
            height=row["height"],
            pts=pts,
            time_base=Fraction(row["time_base"]),
            rate=Fraction(row["rate"]),
            keyframes=array("q", row["keyframes"]),
            damage=row["damage"],
        ),
    )
