"""Folders in the recorded layout: videos with depth, cameras and labels (docs/data-formats.md).

Depth is never interpolated: a mean of a near and a far surface lies on neither. Pixels are picked, and the
intrinsics follow the picked pixels exactly.
"""

from __future__ import annotations

import io
import json
import lzma
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt16

from ..errors import DatasetError
from ..structures import DepthAndCameras

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
    except (KeyError, TypeError, ValueError) as error:
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


def read_cameras(data_dir: str | Path, view: str, episode: str) -> RecordedCameras:
    """The camera of one video.

    Raises:
        DatasetError: the file is missing, damaged or of other shapes.
    """
    path = _camera_path(data_dir, view, episode)
    arrays = _read_arrays(path, ("K", "T_cam_world"))
    intrinsics, cam_from_world = arrays["K"].astype(np.float64), arrays["T_cam_world"].astype(np.float64)
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
    depth_mm = _read_depth_mm(_depth_path(data_dir, view, episode))
    return depth_mm.astype(np.float32) * np.float32(METRES_PER_MILLIMETRE)


def read_labels(data_dir: str | Path, episode: str) -> RecordedLabels:
    """What truly happened in an episode.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    path = Path(data_dir) / "labels" / f"{episode}.npz"
    arrays = _read_arrays(path, ("actions", "ee_pos", "gripper_open", "object_pose"))
    return RecordedLabels(
        actions=arrays["actions"].astype(np.float64),
        ee_pos_m=arrays["ee_pos"].astype(np.float64),
        gripper_open=arrays["gripper_open"].astype(np.float64),
        object_pose=arrays["object_pose"].astype(np.float64),
    )


def read_sensor(
    folder: RecordedFolder, video: str, frame_indices: Sequence[int], *, frame_size: int
) -> DepthAndCameras | None:
    """One scene of the video's frames with these numbers, or None where no geometry was recorded.

    Depth covers the same middle square as ``square_frame``; it keeps its own pixels, or every n-th where at
    least ``frame_size`` of them remain.

    Raises:
        DatasetError: files are missing or damaged, or do not fit the video.
    """
    view, episode = view_name(video), episode_name(video)
    if not has_geometry(folder.data_dir, view, episode):
        return None
    depth_path = _depth_path(folder.data_dir, view, episode)
    depth_mm = _read_depth_mm(depth_path)
    cameras = read_cameras(folder.data_dir, view, episode)
    for path, found in (
        (depth_path, len(depth_mm)),
        (_camera_path(folder.data_dir, view, episode), len(cameras.cam_from_world)),
    ):
        if found != folder.num_frames[episode]:
            raise DatasetError(f"{path} has {found} frames, index.json says {folder.num_frames[episode]}")
    reduction = _reduction(depth_mm.shape[1:], folder, depth_path)
    side = min(folder.height, folder.width)
    rows = _square_pixels(folder.height, side, reduction, frame_size)
    columns = _square_pixels(folder.width, side, reduction, frame_size)
    chosen = list(frame_indices)
    depth = torch.from_numpy(depth_mm[chosen][:, rows.as_slice, columns.as_slice].astype(np.float32))
    depth *= METRES_PER_MILLIMETRE
    # Picked pixel i is the recorded image's pixel first + i · step, so u becomes (u − first) / step, exactly.
    first = np.array([columns.first_px, rows.first_px])
    step = np.array([columns.step_px, rows.step_px])
    intrinsics = cameras.intrinsics.copy()
    intrinsics[:2, 2] -= first
    intrinsics[:2] /= step[:, None]
    return DepthAndCameras(
        depth=depth[None],
        confidence=(depth > 0).float()[None],
        intrinsics=torch.from_numpy(intrinsics).float().expand(1, len(chosen), 3, 3),
        cam_from_world=torch.from_numpy(cameras.cam_from_world[chosen, :3]).float()[None],
        world_up=torch.tensor([folder.world_up]),
        is_metric=True,
    )


@dataclass(frozen=True)
class _PickedPixels:
    """Rows or columns of a depth map that are used, and where they lie in the recorded image.

    Attributes:
        as_slice: in the depth map.
        first_px: the first one, in pixels of the recorded image.
        step_px: distance of neighbours, in pixels of the recorded image.
    """

    as_slice: slice
    first_px: int
    step_px: int


def _square_pixels(extent: int, side: int, reduction: int, frame_size: int) -> _PickedPixels:
    """The stored pixels along one axis that lie in the middle ``side`` pixels of ``extent``."""
    start = (extent - side) // 2
    first = -(
        -(start - reduction // 2) // reduction
    )  # the first block whose kept pixel is not before the crop
    count = side // reduction
    # Fewer pixels only where whole blocks of them fill the square, so that its border stays the border.
    thinning = max(n for n in range(1, max(1, count // frame_size) + 1) if count % n == 0)
    begin = first + thinning // 2
    return _PickedPixels(
        as_slice=slice(begin, first + count, thinning),
        first_px=begin * reduction + reduction // 2,
        step_px=thinning * reduction,
    )


def _reduction(stored: Sequence[int], folder: RecordedFolder, path: Path) -> int:
    """How many pixels of the recorded image one depth pixel stands for, in each direction."""
    for reduction in range(1, min(folder.height, folder.width) + 1):
        kept = tuple(
            len(range(reduction // 2, extent, reduction)) for extent in (folder.height, folder.width)
        )
        if kept == tuple(stored):
            return reduction
    raise DatasetError(
        f"{path} holds maps of {stored[0]}x{stored[1]} pixels; expected {folder.height}x{folder.width} as "
        "index.json says, or every r-th pixel of that in both directions (docs/data-formats.md)"
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


def _read_depth_mm(path: Path) -> UInt16[np.ndarray, "frames height width"]:
    try:
        stat = path.stat()
        key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        depth_mm = _recent_depth.get(key)
        if depth_mm is None:
            depth_mm = np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False)
            _recent_depth.put(key, depth_mm)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; the folder's index.json promises it") from error
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise DatasetError(f"{path} is damaged: {error}") from error
    if depth_mm.ndim != 3 or depth_mm.dtype != np.uint16:
        raise DatasetError(
            f"{path}: expected uint16 millimetres [frames, height, width], "
            f"got {depth_mm.dtype} {list(depth_mm.shape)}"
        )
    return depth_mm


def _read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; the folder's index.json promises it") from error
    except KeyError as error:
        raise DatasetError(f"{path} lacks an array: {error.args[0]}") from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for damaged files
        raise DatasetError(f"{path} is damaged: {error}") from error


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
