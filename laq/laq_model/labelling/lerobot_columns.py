"""The three columns that labels add to the frames of a LeRobot dataset.

``latent_action`` (the codes), ``latent_action_vector`` (their vectors, joined) and ``latent_action_valid``. A
frame without label, such as the last ones of an episode, is not valid: its codes are ``NO_CODE``, its vector
is zero.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Int64, Num

from ..errors import DatasetError
from ..lerobot.dataset import clip_name, episode_of
from .label_rows import read_part

CODES, VECTOR, VALID = "latent_action", "latent_action_vector", "latent_action_valid"
NO_CODE = -1


@dataclass(frozen=True)
class LatentActionColumns:
    """What the columns are.

    Attributes:
        num_codes: tokens of a frame.
        vector_size: numbers in the vectors of all of them.
        model: fingerprint of the weights that gave them.
    """

    num_codes: int
    vector_size: int
    model: str

    def features(self) -> dict[str, dict[str, Any]]:
        """As info.json describes them."""
        tokens = [f"token_{position}" for position in range(self.num_codes)]
        return {
            CODES: {"dtype": "int64", "shape": [self.num_codes], "names": tokens},
            VECTOR: {"dtype": "float32", "shape": [self.vector_size], "names": None},
            VALID: {"dtype": "bool", "shape": [1], "names": None},
        }

    def schema(self, frames: pa.Schema) -> pa.Schema:
        """A table of frames with the columns at its end, and in the notes that the datasets library keeps."""
        features = self.features()
        types = {"int64": pa.int64(), "float32": pa.float32(), "bool": pa.bool_()}
        fields = [field for field in frames if field.name not in features]
        for name, feature in features.items():
            number, (size,) = types[feature["dtype"]], feature["shape"]
            fields.append(pa.field(name, number if size == 1 else pa.list_(number, size)))
        metadata = dict(frames.metadata or {})
        if b"huggingface" in metadata:
            notes = json.loads(metadata[b"huggingface"])
            known = notes.get("info", {}).get("features")
            if isinstance(known, dict):
                known |= {name: _hub_feature(feature) for name, feature in features.items()}
                metadata[b"huggingface"] = json.dumps(notes).encode()
        return pa.schema(fields, metadata=metadata)


@dataclass(frozen=True)
class FrameLabels:
    """The columns for some frames."""

    codes: Int64[np.ndarray, "frames codes"]
    vectors: Float32[np.ndarray, "frames dims"]
    is_valid: Bool[np.ndarray, " frames"]

    @classmethod
    def none(cls, num_frames: int, columns: LatentActionColumns) -> FrameLabels:
        """Frames without label."""
        return cls(
            np.full((num_frames, columns.num_codes), NO_CODE, np.int64),
            np.zeros((num_frames, columns.vector_size), np.float32),
            np.zeros(num_frames, bool),
        )

    def at(self, frames: Int64[np.ndarray, " some"]) -> FrameLabels:
        """Some of the frames."""
        return FrameLabels(self.codes[frames], self.vectors[frames], self.is_valid[frames])

    def put(self, rows: Int64[np.ndarray, " some"], labels: FrameLabels) -> None:
        """Fill some rows."""
        self.codes[rows], self.vectors[rows], self.is_valid[rows] = (
            labels.codes,
            labels.vectors,
            labels.is_valid,
        )

    def arrays(self) -> list[pa.Array]:
        """In the order of the schema."""
        return [_as_lists(self.codes), _as_lists(self.vectors), pa.array(self.is_valid)]


class EpisodeLabels:
    """The labels of one camera by episode, read from their parts when they are needed.

    Args:
        parts: files that ``label_rows.write_part`` wrote, in the order of the episodes.

    Raises:
        DatasetError: a label is of no LeRobot episode, or none is of this camera.
    """

    def __init__(self, parts: Sequence[Path], camera: str):
        self._camera = camera
        self._parts: dict[int, list[Path]] = {}
        self.num_rows = 0
        for path in parts:
            table = read_part(path)[0]
            for found in pc.value_counts(table["video"]).to_pylist():
                video, episode = found["values"], episode_of(found["values"])
                if video != clip_name(camera, episode):
                    continue
                if not self.num_rows:
                    row = table.filter(pc.equal(table["video"], video)).slice(0, 1).to_pylist()[0]
                    self.columns = LatentActionColumns(len(row["codes"]), len(row["vector"]), row["model"])
                self._parts.setdefault(episode, []).append(path)
                self.num_rows += found["counts"]
        if not self.num_rows:
            raise DatasetError(f"none of the labels is of the camera {camera}; choose another with --camera")
        # Neighbouring episodes share parts.
        self._read = lru_cache(maxsize=2)(lambda path: read_part(path)[0])

    def of(self, episode: int, num_frames: int) -> FrameLabels:
        """The labels of all frames of an episode.

        Raises:
            DatasetError: there is one of a frame that the episode has not.
        """
        labels = FrameLabels.none(num_frames, self.columns)
        name = clip_name(self._camera, episode)
        for path in self._parts.get(episode, ()):
            table = self._read(path)
            rows = table.filter(pc.equal(table["video"], name))
            frames = rows["current_frame"].to_numpy().astype(np.int64)
            if frames.max() >= num_frames:
                raise DatasetError(
                    f"there is a label of frame {frames.max()} of {name}, which has {num_frames} frames"
                )
            labels.put(
                frames,
                FrameLabels(
                    np.array(rows["codes"].to_pylist(), np.int64),
                    np.array(rows["vector"].to_pylist(), np.float32),
                    np.ones(len(rows), bool),
                ),
            )
        return labels


def _as_lists(values: Num[np.ndarray, "rows dims"]) -> pa.Array:
    """Lists of one length; LeRobot has a single number as itself."""
    flat = pa.array(values.reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _hub_feature(feature: dict[str, Any]) -> dict[str, Any]:
    value, (size,) = {"dtype": feature["dtype"], "_type": "Value"}, feature["shape"]
    return value if size == 1 else {"feature": value, "length": size, "_type": "Sequence"}
