"""Episodes on disk: videos, depth, cameras and labels in the recorded layout (docs/data-formats.md)."""

from __future__ import annotations

import io
import json
import lzma
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .camera_paths import CameraPath


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
    depth_reduction: int,
    depth_step_mm: int,
    crf: int,
) -> None:
    """Write one camera's video, depth and cameras of an episode.

    Args:
        rgb: [frames, size, size, 3].
        depth_m: [frames, size, size], along the optical axis, metres.
        depth_reduction: keep the middle pixel of each block of this many; depth is never averaged over edges.
        depth_step_mm: round depth to this step, which makes it small.
        crf: VP9's constant quality, 0 best to 63 smallest.
    """
    _write_video(_parent(folder / "videos" / view / f"{name}.webm"), rgb, fps=fps, crf=crf)
    reduced = reduce_depth(depth_m, reduction=depth_reduction)
    depth_mm = np.where(reduced < 8.0, np.rint(reduced * 1000 / depth_step_mm) * depth_step_mm, 0).astype(
        np.uint16
    )
    buffer = io.BytesIO()
    np.save(buffer, depth_mm)
    _parent(folder / "depth" / view / f"{name}.npy.xz").write_bytes(
        lzma.compress(buffer.getvalue(), preset=9)
    )
    np.savez_compressed(
        _parent(folder / "cameras" / view / f"{name}.npz"), K=path.intrinsics, T_cam_world=path.cam_from_world
    )


def write_labels(folder: Path, name: str, labels: EpisodeLabels) -> None:
    """Write what truly happened in an episode."""
    np.savez_compressed(_parent(folder / "labels" / f"{name}.npz"), **vars(labels))


def write_index(
    folder: Path, *, fps: int, size: int, views: list[str], episodes: list[dict[str, Any]]
) -> None:
    """Write index.json, last: its presence says that the folder is whole."""
    index = {"fps": fps, "size": size, "views": views, "episodes": episodes}
    (folder / "index.json").write_text(json.dumps(index, indent=1))


def reduce_depth(depth_m: NDArray[np.float32], *, reduction: int) -> NDArray[np.float32]:
    """Every ``reduction``-th pixel in both directions, starting in the middle of the first block.

    With an odd reduction the kept pixel is the block's exact centre, so K rescaled by integer pixel centres fits;
    an even one is off by half a pixel of the large image.
    """
    first = reduction // 2
    return depth_m[:, first::reduction, first::reduction]


def _write_video(path: Path, rgb: NDArray[np.uint8], *, fps: int, crf: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=Fraction(fps))
        stream.height, stream.width = rgb.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "b:v": "0", "cpu-used": "2", "row-mt": "0", "threads": "1"}
        for frame in rgb:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
