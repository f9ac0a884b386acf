"""The index of a folder on disk: what decoding every video once has shown, for as long as the files stay.

One Parquet file, written under a temporary name and renamed. It lies in the data folder, so that it goes
where the videos go; where that cannot be written, in the user's cache folder. Layout: docs/data-formats.md.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import pyarrow as pa
import pyarrow.parquet as pq

from .frame_table import FrameTable

FORMAT = "1"
FILE_NAME = ".concerto-laq-index.parquet"
DECODER = f"PyAV {av.__version__}"
_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("reason", pa.string()),
        ("decoder", pa.string()),
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
class ScannedVideo:
    """What a scan gave, and the state of the file that it was made of.

    Attributes:
        modified_ns: the file's modification time.
        table: the frames, or None if the video is unreadable.
        reason: why it is unreadable; empty otherwise.
        decoder: the decoder's version. Another version may read what this one could not.
    """

    size_bytes: int
    modified_ns: int
    table: FrameTable | None
    reason: str
    decoder: str

    def is_of(self, stat: os.stat_result) -> bool:
        """Whether it still describes the file, and is worth believing."""
        is_same_file = (self.size_bytes, self.modified_ns) == (stat.st_size, stat.st_mtime_ns)
        return is_same_file and (self.table is not None or self.decoder == DECODER)


def read_cache(root: Path) -> dict[str, ScannedVideo]:
    """Everything cached for the folder; nothing if there is no cache that this version can read."""
    for path in cache_paths(root):
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException):
            continue  # a cache is only a memory: without it every video is decoded again
        if table.schema.equals(_SCHEMA) and (table.schema.metadata or {}).get(b"format") == FORMAT.encode():
            return {row["name"]: _from_row(row) for row in table.to_pylist()}
    return {}


def write_cache(root: Path, videos: Mapping[str, ScannedVideo]) -> Path | None:
    """Write the cache whole, in the first place that can be written; gives it, or None if there is none."""
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
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [root / FILE_NAME, home / "concerto-laq" / f"index-{digest}.parquet"]


def _to_row(name: str, video: ScannedVideo) -> dict[str, object]:
    row: dict[str, object] = {
        "name": name,
        "size_bytes": video.size_bytes,
        "modified_ns": video.modified_ns,
        "reason": video.reason,
        "decoder": video.decoder,
    }
    if video.table is not None:
        row |= vars(video.table)
        row |= {"time_base": str(video.table.time_base), "rate": str(video.table.rate)}
    return row


def _from_row(row: dict) -> ScannedVideo:
    table = None
    if row["num_frames"] is not None:
        table = FrameTable(
            num_frames=row["num_frames"],
            width=row["width"],
            height=row["height"],
            pts=row["pts"],
            time_base=Fraction(row["time_base"]),
            rate=Fraction(row["rate"]),
            keyframes=row["keyframes"],
            damage=row["damage"],
        )
    return ScannedVideo(row["size_bytes"], row["modified_ns"], table, row["reason"], row["decoder"])
