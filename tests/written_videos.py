"""Small videos whose frames say their own number, so that a wrong frame cannot pass for the right one."""

import io
import json
import lzma
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 8


def numbered_frame(number: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    """The number in binary: eight upright stripes, white for 1; the highest bit on the left."""
    bits = [(number >> bit) & 1 for bit in reversed(range(BITS))]
    stripe = np.minimum(np.arange(width) * BITS // width, BITS - 1)
    row = np.where(np.array(bits)[stripe] == 1, 230, 20).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_in(rgb: np.ndarray) -> int:
    """Read the number back from a frame of any size that shows all stripes."""
    stripes = np.array_split(rgb.astype(np.float32).mean(axis=(0, 2)), BITS)
    return sum(
        int(stripe[len(stripe) // 4 : -len(stripe) // 4].mean() > 125) << (BITS - 1 - i)
        for i, stripe in enumerate(stripes)
    )


def write_video(
    path: Path,
    frames: int | list[np.ndarray],
    *,
    codec: str = "libvpx-vp9",
    pix_fmt: str = "yuv420p",
    rate: int = 10,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write ``frames`` numbered frames, or the given pictures; with ``pts`` in units of ``time_base``."""
    pictures = [numbered_frame(n) for n in range(frames)] if isinstance(frames, int) else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1  # the same bytes on any machine
        stream.options = {"g": "10", **(options or {})}
        if time_base:
            stream.codec_context.time_base = time_base
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[number], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_recorded(
    folder: Path,
    *,
    episodes: int = 3,
    views: tuple[str, ...] = ("fixed", "moving"),
    num_frames: int = 12,
    width: int = 64,
    height: int = 64,
    depth_size: tuple[int, int] = (64, 64),
) -> Path:
    """A folder in the recorded layout. Depth is 1000 · frame + 10 · row + column, in millimetres."""
    depth_height, depth_width = depth_size
    rows, columns = np.mgrid[:depth_height, :depth_width]
    depth_mm = np.stack([1000 * n + 10 * rows + columns for n in range(num_frames)]).astype(np.uint16)
    cam_from_world = np.tile(np.eye(4), (num_frames, 1, 1))
    cam_from_world[:, 0, 3] = np.arange(num_frames)
    intrinsics = np.array([[100.0, 0.0, 31.5], [0.0, 120.0, 23.5], [0.0, 0.0, 1.0]])
    names = [f"reach-{n:03d}" for n in range(episodes)]
    for sub in ("depth", "cameras"):
        for view in views:
            (folder / sub / view).mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in names:
        for view in views:
            pictures = [numbered_frame(n, width=width, height=height) for n in range(num_frames)]
            write_video(folder / "videos" / view / f"{name}.webm", pictures)
            save_depth(folder, depth_mm, view=view, name=name)
            np.savez(folder / "cameras" / view / f"{name}.npz", K=intrinsics, T_cam_world=cam_from_world)
        np.savez(
            folder / "labels" / f"{name}.npz",
            actions=np.zeros((num_frames - 1, 4)),
            ee_pos=np.arange(3 * num_frames).reshape(num_frames, 3) * 0.5,
            gripper_open=np.linspace(0, 1, num_frames),
            object_pose=np.zeros((num_frames, 7)),
        )
    size = width if width == height else [height, width]
    described = [{"name": name, "task": "reach-v3", "frames": num_frames} for name in names]
    (folder / "index.json").write_text(json.dumps({"fps": 10, "size": size, "episodes": described}))
    return folder


def save_depth(folder: Path, depth_mm: np.ndarray, *, view: str = "fixed", name: str = "reach-000") -> None:
    """Replace the depth of one video of a recorded folder."""
    buffer = io.BytesIO()
    np.save(buffer, depth_mm)
    (folder / "depth" / view / f"{name}.npy.xz").write_bytes(lzma.compress(buffer.getvalue(), preset=0))
