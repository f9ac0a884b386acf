"""What the meta folder of a LeRobot dataset says: its features, its cameras, and where each episode lies.

The format, version 3.0 (github.com/huggingface/lerobot, src/lerobot/datasets): ``meta/info.json`` names the
features; each row of ``meta/episodes/*/*.parquet`` is an episode; rows of ``data/*/*.parquet`` are frames; a
camera's ``videos/CAMERA/chunk-000/file-000.mp4`` shows many episodes, one after the other. What is used of it
is in docs/data-formats.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DatasetError

INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
EPISODE_FILES = "meta/episodes/*/*.parquet"
DATA_FILES = "data/*/*.parquet"
_CLIP_NAME = re.compile(r"videos/([^/]+)/episode_(\d+)")


@dataclass(frozen=True)
class LeRobotDataset:
    """What ``meta/info.json`` says.

    Attributes:
        fps: frames a second, of every camera.
        features: by name; each has dtype, shape and names.
        video_path: where a video lies, with places for video_key, chunk_index and file_index.
    """

    root: Path
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    video_path: str

    @property
    def cameras(self) -> tuple[str, ...]:
        """Features that are videos of colour."""
        return tuple(
            name
            for name, feature in self.features.items()
            if feature["dtype"] == "video" and not _is_depth(feature)
        )


@dataclass(frozen=True)
class EpisodeVideo:
    """An episode as one camera saw it.

    Attributes:
        number: ``episode_index``.
        file: the video that it lies in, relative to the dataset's folder.
        from_s: time stamp of its first frame in that file.
    """

    number: int
    num_frames: int
    file: str
    from_s: float


def is_lerobot(data_dir: str | Path) -> bool:
    """Whether the folder has a ``meta/info.json`` with a version of LeRobot's format.

    Raises:
        DatasetError: the file is there, but is no JSON.
    """
    return "codebase_version" in _read_info(Path(data_dir))


def open_lerobot(data_dir: str | Path) -> LeRobotDataset:
    """Read ``meta/info.json``.

    Raises:
        DatasetError: there is none, it is of another version, or it lacks what the format needs.
    """
    root = Path(data_dir)
    info = _read_info(root)
    if "codebase_version" not in info:
        raise DatasetError(f"{root} is no LeRobot dataset (no {INFO_FILE} with a codebase_version)")
    version = str(info["codebase_version"])
    if not version.startswith("v3."):
        raise DatasetError(
            f"{root} is a LeRobot dataset of version {version}; version v3.0 is read. "
            "Convert it with lerobot's script convert_dataset_v21_to_v30"
        )
    try:
        features = {str(name): dict(feature) for name, feature in info["features"].items()}
        for feature in features.values():
            feature["dtype"], feature["shape"] = str(feature["dtype"]), tuple(feature["shape"])
        fps = float(info["fps"])
        if not fps > 0:
            raise ValueError(f"fps is {fps}")
        return LeRobotDataset(root, fps, features, str(info.get("video_path") or ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{root / INFO_FILE} lacks or garbles a field of LeRobot v3.0: {error!r}"
        ) from error


def choose_camera(dataset: LeRobotDataset, wanted: str) -> str:
    """The camera of that name (``observation.images.top``, or its end, ``top``); empty: the only one.

    Raises:
        DatasetError: no such camera, several to choose from, or none at all.
    """
    cameras, listed = dataset.cameras, ", ".join(dataset.cameras)
    if not cameras:
        kind = "keeps its pictures outside of videos" if _has_pictures(dataset) else "has no camera"
        raise DatasetError(f"{dataset.root} {kind}; only features of dtype video are read")
    if not wanted:
        if len(cameras) > 1:
            raise DatasetError(f"{dataset.root} has several cameras; choose one with --camera: {listed}")
        return cameras[0]
    found = [name for name in cameras if name == wanted] or [
        name for name in cameras if name.endswith(f".{wanted}")
    ]
    if len(found) != 1:
        raise DatasetError(f"{dataset.root} has no camera {wanted!r}; it has {listed} (--camera)")
    return found[0]


def read_episodes(dataset: LeRobotDataset, camera: str) -> tuple[EpisodeVideo, ...]:
    """Every episode as this camera saw it, in order.

    Raises:
        DatasetError: the tables of episodes are missing, damaged, or lack a column.
    """
    place = {name: f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")}
    episodes: dict[int, EpisodeVideo] = {}
    for path in parquet_files(dataset.root, EPISODE_FILES):
        rows = read_table(path, ["episode_index", "length", *place.values()]).to_pylist()
        try:
            for row in rows:
                chunk, file = int(row[place["chunk_index"]]), int(row[place["file_index"]])
                number = int(row["episode_index"])
                episodes[number] = EpisodeVideo(
                    number=number,
                    num_frames=int(row["length"]),
                    file=dataset.video_path.format(video_key=camera, chunk_index=chunk, file_index=file),
                    from_s=float(row[place["from_timestamp"]]),
                )
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise DatasetError(
                f"{path} does not say where each episode of {camera} lies, or video_path of {INFO_FILE} "
                f"cannot be filled in: {error}"
            ) from error
    return tuple(episodes[number] for number in sorted(episodes))


def clip_name(camera: str, episode: int) -> str:
    """What an episode seen by a camera is called; of one form with the recorded layout, so all views of an
    episode are on one side of the split.
    """
    return f"videos/{camera}/episode_{episode:06d}"


def episode_of(clip: str) -> int:
    """The number in ``clip_name``.

    Raises:
        DatasetError: no such name.
    """
    found = _CLIP_NAME.fullmatch(clip)
    if not found:
        raise DatasetError(
            f"{clip} does not name an episode of a LeRobot dataset (videos/CAMERA/episode_000000)"
        )
    return int(found[2])


def parquet_files(root: Path, pattern: str) -> list[Path]:
    """The tables of one kind, in order.

    Raises:
        DatasetError: there is none.
    """
    paths = sorted(root.glob(pattern))
    if not paths:
        raise DatasetError(f"{root} has no {pattern}; is the dataset downloaded whole?")
    return paths


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """These columns of a Parquet file.

    Raises:
        DatasetError: it is damaged, or lacks one of them.
    """
    read_schema(path, columns)
    with _refusing_damage(path), pq.ParquetFile(path) as file:
        return file.read(columns=list(columns))


def read_schema(path: Path, needed: Sequence[str]) -> pa.Schema:
    """What a Parquet file holds.

    Raises:
        DatasetError: it is damaged, or lacks a column that is needed.
    """
    with _refusing_damage(path):
        schema = pq.read_schema(path)
    for name in needed:
        if name not in schema.names:
            raise DatasetError(f"{path} lacks the column {name}")
    return schema


def row_groups(path: Path) -> Iterator[pa.Table]:
    """The rows of a Parquet file, group by group.

    Raises:
        DatasetError: it is damaged.
    """
    with _refusing_damage(path):
        file = pq.ParquetFile(path)
    with file:
        for group in range(file.num_row_groups):
            with _refusing_damage(path):
                table = file.read_row_group(group)
            yield table


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is damaged or cannot be read: {error}") from error


def _read_info(root: Path) -> dict[str, Any]:
    path = root / INFO_FILE
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no JSON ({error}); is the dataset downloaded whole?") from error
    return info if isinstance(info, dict) else {}


def _is_depth(feature: Mapping[str, Any]) -> bool:
    notes = [feature.get(key) or {} for key in ("info", "video_info")]
    return any(note.get("is_depth_map") or note.get("video.is_depth_map") for note in notes)


def _has_pictures(dataset: LeRobotDataset) -> bool:
    return any(feature["dtype"] == "image" for feature in dataset.features.values())
