"""A LeRobot dataset with its action tokens: a copy with the columns of ``lerobot_columns.py``.

Videos are hard links to those of the original where the disk allows it. Layout: docs/data-formats.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from ..durable_files import new_folder
from ..errors import ConfigError, DatasetError, RunError
from ..lerobot.dataset import (
    DATA_FILES,
    INFO_FILE,
    STATS_FILE,
    LeRobotDataset,
    parquet_files,
    read_episodes,
    read_schema,
    row_groups,
)
from ..lerobot.statistics import FeatureStatistics
from .lerobot_columns import CODES, VALID, VECTOR, EpisodeLabels, FrameLabels, LatentActionColumns

PROVENANCE_FILE = "meta/latent_action.json"
FRAMES_FOR_QUANTILES = 100_000
PLACE_OF_A_FRAME = ("episode_index", "frame_index")  # columns that say which labels a row gets


@dataclass(frozen=True)
class CopiedFrames:
    """How many frames the copy has.

    Attributes:
        num_without_future: so near to their episode's end that no frame is ``frame_offset_frames`` later.
    """

    num_frames: int
    num_labelled: int
    num_without_future: int
    frame_offset_frames: int

    def in_words(self) -> str:
        """For the user."""
        others = self.num_frames - self.num_labelled - self.num_without_future
        told = (
            f"{self.num_labelled} of {self.num_frames} frames are labelled. {self.num_without_future} at the "
            f"ends of episodes have no frame {self.frame_offset_frames} later"
        )
        if others:
            told += f", {others} others were left out (every_n, max_videos, skipped videos)"
        return f"{told}: their {VALID} is false"


def refuse_output(output: Path, data_dir: Path) -> None:
    """Find out before the work whether the copy may be written there.

    Raises:
        ConfigError: it has the name of a file, lies inside the dataset, or the dataset inside it.
        RunError: something is there already, which a copy would replace.
    """
    if output.suffix in (".parquet", ".jsonl"):
        raise ConfigError(f"--format lerobot writes a copy of the dataset: give --output DIR, not {output}")
    own, source = output.resolve(), data_dir.resolve()
    if own == source or source in own.parents or own in source.parents:
        raise ConfigError(f"--output {output} must lie outside of the dataset {data_dir}")
    if output.exists():
        raise RunError(f"{output} exists already; remove it, or give the copy another --output")


def refuse_frames(dataset: LeRobotDataset) -> None:
    """Find out before the work whether every table of frames says what its rows are.

    Raises:
        DatasetError: a table is missing, damaged, or lacks a column that is needed.
    """
    for path in parquet_files(dataset.root, DATA_FILES):
        read_schema(path, PLACE_OF_A_FRAME)


def write_lerobot(
    output: Path, dataset: LeRobotDataset, parts: Sequence[Path], *, camera: str, frame_offset: int
) -> CopiedFrames:
    """Write the copy, whole or not at all.

    Args:
        parts: files of labels (``label_rows.write_part``).
        frame_offset: frames from a frame to the one that its action leads to.

    Raises:
        DatasetError: the labels are not of this dataset and camera, or its tables are damaged.
        RunError: the disk is full or cannot be written.
    """
    labels = EpisodeLabels(parts, camera)
    lengths = {episode.number: episode.num_frames for episode in read_episodes(dataset, camera)}
    tally = _Tally(labels.num_rows, frame_offset)
    try:
        with new_folder(output) as folder:
            _copy_files(dataset.root, folder)
            for path in parquet_files(dataset.root, DATA_FILES):
                target = folder / path.relative_to(dataset.root)
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_labelled(path, target, labels, lengths, tally)
            _write_meta(dataset.root, folder, labels.columns, tally)
            provenance = {
                "model": labels.columns.model,
                "camera": camera,
                "frame_offset_frames": frame_offset,
            }
            _write_json(folder / PROVENANCE_FILE, provenance)
    except OSError as error:
        raise RunError(
            f"cannot write {output} ({error.strerror or error}); the labelled parts are kept. "
            "Free space, or choose another --output, and run again"
        ) from error
    return CopiedFrames(tally.num_frames, tally.num_labelled, tally.num_without_future, frame_offset)


class _Tally:
    """Counts and statistics of the new columns."""

    def __init__(self, num_labels: int, frame_offset: int):
        every = -(-num_labels // FRAMES_FOR_QUANTILES)
        self.statistics = {name: FeatureStatistics(quantile_every=every) for name in (CODES, VECTOR, VALID)}
        self._frame_offset = frame_offset
        self.num_frames = self.num_labelled = self.num_without_future = 0

    def add(self, labels: FrameLabels, frames: Int64[np.ndarray, " frames"], length: int) -> None:
        is_valid = labels.is_valid
        self.num_frames += len(frames)
        self.num_labelled += int(is_valid.sum())
        self.num_without_future += int((~is_valid & (frames + self._frame_offset >= length)).sum())
        self.statistics[CODES].add(labels.codes[is_valid])
        self.statistics[VECTOR].add(labels.vectors[is_valid])
        self.statistics[VALID].add(is_valid[:, None].astype(np.int64))


def _write_labelled(
    source: Path, target: Path, labels: EpisodeLabels, lengths: Mapping[int, int], tally: _Tally
) -> None:
    """A file of frames with the new columns, in the row groups that it had."""
    schema = labels.columns.schema(read_schema(source, PLACE_OF_A_FRAME))
    with pq.ParquetWriter(target, schema, compression="snappy") as writer:
        for table in row_groups(source):
            added = _labels_of(table, source, labels, lengths, tally).arrays()
            kept = [table[name] for name in schema.names[: -len(added)]]
            writer.write_table(pa.table([*kept, *added], schema=schema))


def _labels_of(
    table: pa.Table, source: Path, labels: EpisodeLabels, lengths: Mapping[int, int], tally: _Tally
) -> FrameLabels:
    episode, frame = (table[name].to_numpy() for name in ("episode_index", "frame_index"))
    found = FrameLabels.none(len(table), labels.columns)
    for number in dict.fromkeys(episode.tolist()):
        rows = np.flatnonzero(episode == number)
        length = lengths.get(number, 0)
        if frame[rows].max() >= length:
            raise DatasetError(
                f"{source} has frame {frame[rows].max()} of episode {number}, which has {length} frames by "
                "meta/episodes"
            )
        part = labels.of(number, length).at(frame[rows])
        tally.add(part, frame[rows], length)
        found.put(rows, part)
    return found


def _write_meta(root: Path, folder: Path, columns: LatentActionColumns, tally: _Tally) -> None:
    """What info.json and, where there is one, stats.json say of the new columns."""
    info = json.loads((root / INFO_FILE).read_text(encoding="utf-8"))
    info["features"] |= columns.features()
    _write_json(folder / INFO_FILE, info)
    if (root / STATS_FILE).is_file():
        try:
            stats = json.loads((root / STATS_FILE).read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{root / STATS_FILE} is no JSON ({error})") from error
        stats |= {name: statistics.as_json() for name, statistics in tally.statistics.items()}
        _write_json(folder / STATS_FILE, stats)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")


def _copy_files(root: Path, folder: Path) -> None:
    """Everything that is written anew stays out, and so do hidden files, which are caches."""
    written = {*root.glob(DATA_FILES), root / INFO_FILE, root / STATS_FILE, root / PROVENANCE_FILE}
    for path in _files(root):
        if path in written:
            continue
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.relative_to(root).parts[0] == "videos":
            _link_or_copy(path, target)
        else:
            shutil.copyfile(path, target)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name != ".gitattributes":
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)  # a link to a link would hang in the air
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
