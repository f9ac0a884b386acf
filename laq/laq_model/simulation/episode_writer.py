"""Episodes on disk: videos, depth, cameras and labels in the recorded layout (docs/data-formats.md)."""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .camera_paths import CameraPath

MAX_DEPTH_M = 8.0  # far behind every table; the sky is farther


@dataclass(frozen=True)
class EpisodeLabels:
    """What truly happened: see ``rollout.Rollout`` for shapes and units."""

    actions: NDArray[np.float32]
    ee_pos: NDArray[np.float64]
    gripper_open: NDArray[np.float64]
    object_pose: NDArray[np.float64]


def write_view(
    folder: Path,
    *,
    view: str,
    name: str,
    rgb: NDArray[np.uint8],
    depth_m: NDArray[np.float32],
    path: CameraPath,
    fps: int,
    depth_step_mm: int,
    crf: int,
) -> None:
    """Write one camera's video, depth and cameras of an episode.

    Args:
        rgb: [frames, size, size, 3].
        depth_m: [frames, depth_size, depth_size], along the optical axis, metres; drawn at its own
            size, since depth averaged over an edge lies nowhere.
        path: its intrinsics are those of the video.
        depth_step_mm: round depth to this step, which makes it small.
        crf: VP9's constant quality, 0 best to 63 smallest.
    """
    _write_video(_parent(folder / "videos" / view / f"{name}.webm"), rgb, fps=fps, crf=crf)
    buffer = io.BytesIO()
    np.save(buffer, depth_in_mm(depth_m, step_mm=depth_step_mm))
    _parent(folder / "depth" / view / f"{name}.npy.xz").write_bytes(
        lzma.compress(buffer.getvalue(), preset=9)
    )
    np.savez_compressed(
        _parent(folder / "cameras" / view / f"{name}.npz"),
        K=path.intrinsics,
        T_cam_world=path.cam_from_world,
        move=path.move,
    )


def write_labels(folder: Path, name: str, labels: EpisodeLabels) -> None:
    """Write what truly happened in an episode, after all its views: ``has_episode`` looks for this file."""
    target = _parent(folder / "labels" / f"{name}.npz")
    temporary = target.with_name(f"{name}.tmp.npz")  # numpy appends .npz to other names
    np.savez_compressed(temporary, **vars(labels))
    temporary.replace(target)


def has_episode(folder: Path, name: str) -> bool:
    """Whether an episode is complete."""
    return (folder / "labels" / f"{name}.npz").exists()


def camera_moves(folder: Path, name: str, views: Sequence[str]) -> dict[str, str]:
    """How each view's camera moved, from the camera files."""
    return {view: str(np.load(folder / "cameras" / view / f"{name}.npz")["move"]) for view in views}


def write_index(
    folder: Path, *, fps: int, size: int, views: list[str], episodes: list[dict[str, Any]]
) -> None:
    """Write index.json, last: its presence says that the folder is whole."""
    index = {"fps": fps, "size": size, "views": views, "episodes": episodes}
    temporary = folder / "index.json.tmp"
    temporary.write_text(json.dumps(index, indent=1))
    temporary.replace(folder / "index.json")


def depth_in_mm(depth_m: NDArray[np.float32], *, step_mm: int) -> NDArray[np.uint16]:
    """Whole steps of millimetres; 0, which says "no depth", from ``MAX_DEPTH_M`` on."""
    rounded = np.rint(depth_m * 1000 / step_mm) * step_mm
    return np.where(depth_m < MAX_DEPTH_M, rounded, 0).astype(np.uint16)


def _write_video(path: Path, rgb: NDArray[np.uint8], *, fps: int, crf: int) -> None:
    # "bitexact" keeps random numbers and version names out of the file.
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libvpx-vp9", rate=Fraction(fps))
        stream.height, stream.width = rgb.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": str(crf),
            "b:v": "0",
            "cpu-used": "2",
            "row-mt": "0",
            "threads": "1",
            "flags": "+bitexact",
        }
        for frame in rgb:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
