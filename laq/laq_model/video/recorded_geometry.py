"""Folders in the recorded layout: videos with depth, cameras and labels (docs/data-formats.md)."""

from __future__ import annotations

import io
import json
import lzma
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float, UInt16

from ..errors import DatasetError

METRES_PER_MILLIMETRE = 1e-3
# Decompressing an episode's depth takes longer than decoding two frames, so the last ones stay in memory.
RECENT_DEPTH_BYTES = 512 * 2**20


@dataclass(frozen=True)
class RecordedFolder:
    """What ``index.json`` says.

    Attributes:
        height: pixels of the images that the intrinsics belong to.
        width: likewise.
        world_up: unit vector against gravity, in the world of the cameras.
        num_frames: of each episode, by name; the order is that of the file.
        views: the cameras whose videos are there.
    """

    data_dir: Path
    fps: float
    height: int
    width: int
    world_up: tuple[float, float, float]
    num_frames: Mapping[str, int]
    views: tuple[str, ...]


@dataclass(frozen=True)
class RecordedCameras:
    """One camera through an episode.

    Attributes:
        intrinsics: pixels of the images of ``index.json``'s size, integer pixel centres.
        cam_from_world: OpenCV axes, metres.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    cam_from_world: Float[np.ndarray, "frames 4 4"]


@dataclass(frozen=True)
class RecordedLabels:
    """What truly happened in an episode.

    Attributes:
        actions: the command from each frame to the next (hand, gripper), in the robot's own units.
        ee_pos_m: the hand's place in the world.
        gripper_open: 0 closed to 1 open.
        object_pose: place in metres and quaternion, scalar first, as the simulator has it.
    """

    actions: Float[np.ndarray, "steps action_channels"]
    ee_pos_m: Float[np.ndarray, "frames 3"]
    gripper_open: Float[np.ndarray, " frames"]
    object_pose: Float[np.ndarray, "frames 7"]


def is_recorded(data_dir: str | Path) -> bool:
    """Whether the folder has an ``index.json`` with a list of episodes.

    Raises:
        DatasetError: the file is there, but is no JSON.
    """
    return "episodes" in _read_index(Path(data_dir))


def open_recorded(data_dir: str | Path) -> RecordedFolder:
    """Read ``index.json``.

    Raises:
        DatasetError: there is none, or it lacks what the layout needs.
    """
    folder = Path(data_dir)
    index = _read_index(folder)
    if "episodes" not in index:
        raise DatasetError(
            f"{folder} is not in the recorded layout (no index.json with episodes; see docs/data-formats.md)"
        )
    try:
        size = index["size"]
        height, width = (size, size) if isinstance(size, int) else size
        up = [float(x) for x in index.get("world_up", (0.0, 0.0, 1.0))]
        x, y, z = (component / float(np.linalg.norm(up)) for component in up)
        return RecordedFolder(
            data_dir=folder,
            fps=float(index["fps"]),
            height=int(height),
            width=int(width),
            world_up=(x, y, z),
            num_frames={str(e["name"]): int(e["frames"]) for e in index["episodes"]},
            views=tuple(sorted(path.name for path in (folder / "videos").glob("*") if path.is_dir())),
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DatasetError(
            f"{folder / 'index.json'} lacks or garbles a field of the recorded layout: {error!r} "
            "(see docs/data-formats.md)"
        ) from error


def episode_name(video: str) -> str:
    """NAME of ``videos/VIEW/NAME.webm``.

    Raises:
        DatasetError: the path is not of this form.
    """
    return PurePosixPath(_recorded_path(video)[2]).stem


def view_name(video: str) -> str:
    """VIEW of ``videos/VIEW/NAME.webm``.

    Raises:
        DatasetError: the path is not of this form.
    """
    return _recorded_path(video)[1]


def has_geometry(data_dir: str | Path, view: str, episode: str) -> bool:
    """Whether depth and cameras were recorded with this video."""
    return _depth_path(data_dir, view, episode).exists() and _camera_path(data_dir, view, episode).exists()


def has_labels(data_dir: str | Path) -> bool:
    """Whether somebody recorded what happened: then every episode must have its labels."""
    return (Path(data_dir) / "labels").is_dir()


def read_cameras(data_dir: str | Path, view: str, episode: str) -> RecordedCameras:
    """The camera of one video.

    Raises:
        DatasetError: the file is missing, damaged or of other shapes.
    """
    path = _camera_path(data_dir, view, episode)
    arrays = _read_arrays(path, {"K": 2, "T_cam_world": 3})
    intrinsics, cam_from_world = arrays["K"], arrays["T_cam_world"]
    if intrinsics.shape != (3, 3) or cam_from_world.shape[1:] != (4, 4):
        raise DatasetError(
            f"{path}: expected K [3, 3] and T_cam_world [frames, 4, 4], "
            f"got {list(intrinsics.shape)} and {list(cam_from_world.shape)}"
        )
    return RecordedCameras(intrinsics, cam_from_world)


def read_depth(data_dir: str | Path, view: str, episode: str) -> Float[np.ndarray, "frames height width"]:
    """Depth along the optical axis in metres, float32, 0 where there is none; at its stored resolution.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    return read_depth_mm(data_dir, view, episode).astype(np.float32) * np.float32(METRES_PER_MILLIMETRE)


def read_depth_mm(data_dir: str | Path, view: str, episode: str) -> UInt16[np.ndarray, "frames height width"]:
    """Depth as it is stored: millimetres along the optical axis, 0 where there is none.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    path = _depth_path(data_dir, view, episode)
    try:
        stat = path.stat()
        key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        depth_mm = _recent_depth.get(key)
        if depth_mm is None:
            depth_mm = np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False)
            _recent_depth.put(key, depth_mm)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from error
    if depth_mm.ndim != 3 or depth_mm.dtype != np.uint16:
        raise DatasetError(
            f"{path}: expected uint16 millimetres [frames, height, width], "
            f"got {depth_mm.dtype} {list(depth_mm.shape)}"
        )
    return depth_mm


def read_labels(data_dir: str | Path, episode: str) -> RecordedLabels:
    """What truly happened in an episode.

    Raises:
        DatasetError: the file is missing, damaged or of other shapes.
    """
    path = _label_path(data_dir, episode)
    arrays = _read_arrays(path, {"actions": 2, "ee_pos": 2, "gripper_open": 1, "object_pose": 2})
    num_frames = len(arrays["ee_pos"])
    expected = {"actions": num_frames - 1, "gripper_open": num_frames, "object_pose": num_frames}
    for name, length in expected.items():
        if len(arrays[name]) != length:
            raise DatasetError(
                f"{path}: {num_frames} rows of ee_pos need {length} of {name}, got {len(arrays[name])}"
            )
    return RecordedLabels(
        actions=arrays["actions"],
        ee_pos_m=arrays["ee_pos"],
        gripper_open=arrays["gripper_open"],
        object_pose=arrays["object_pose"],
    )


class _RecentArrays:
    """The arrays read last, up to a number of bytes."""

    def __init__(self, capacity_bytes: int):
        self._capacity_bytes = capacity_bytes
        self._arrays: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> np.ndarray | None:
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
            return self._arrays.get(key)

    def put(self, key: Any, array: np.ndarray) -> None:
        with self._lock:
            self._arrays[key] = array
            while (
                sum(a.nbytes for a in self._arrays.values()) > self._capacity_bytes and len(self._arrays) > 1
            ):
                self._arrays.popitem(last=False)


_recent_depth = _RecentArrays(RECENT_DEPTH_BYTES)


def _read_arrays(path: Path, axes: Mapping[str, int]) -> dict[str, Float[np.ndarray, "*axes"]]:
    """The named arrays in float64, each with the number of axes that it must have."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in axes}
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except KeyError as error:
        raise DatasetError(f"{path} lacks an array: {error.args[0]}") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} is damaged: {error}") from error
    for name, num_axes in axes.items():
        if arrays[name].ndim != num_axes:
            raise DatasetError(f"{path}: {name} must have {num_axes} axes, got {list(arrays[name].shape)}")
    return arrays


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} is no JSON ({error}); repair it, or rename it if this is a plain folder of videos"
        ) from error
    return index if isinstance(index, dict) else {}


def _recorded_path(video: str) -> tuple[str, ...]:
    parts = PurePosixPath(video).parts
    if len(parts) != 3 or parts[0] != "videos":
        raise DatasetError(
            f"{video} is not a path of the recorded layout, videos/VIEW/NAME.webm (docs/data-formats.md)"
        )
    return parts


def _depth_path(data_dir: str | Path, view: str, episode: str) -> Path:
    return Path(data_dir) / "depth" / view / f"{episode}.npy.xz"


def _camera_path(data_dir: str | Path, view: str, episode: str) -> Path:
    return Path(data_dir) / "cameras" / view / f"{episode}.npz"


def _label_path(data_dir: str | Path, episode: str) -> Path:
    return Path(data_dir) / "labels" / f"{episode}.npz"
