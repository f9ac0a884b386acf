"""A folder in the recorded layout, labels and cameras only, worked out by hand."""

import json
from pathlib import Path

import numpy as np

from laq_model.feature_store import PairName

FRAMES = 4


def camera_at(x: float, *, turn_rad: float = 0.0) -> np.ndarray:
    """Camera from world: one that stands at (x, 0, 0) and looks along +y, turned about its own down axis."""
    # Right is +x, down is -z, ahead is +y.
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    turn = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ level
    matrix[:3, 3] = -matrix[:3, :3] @ [x, 0, 0]
    return matrix


def write_recorded(folder: Path, views: dict[str, list[np.ndarray]], *, episodes: tuple[str, ...]) -> Path:
    """Episodes in which the hand moves by (1, 2, 3) cm a frame and the gripper closes by a tenth."""
    folder.mkdir(parents=True, exist_ok=True)
    index = {"fps": 10, "size": 32, "episodes": [{"name": name, "frames": FRAMES} for name in episodes]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "labels").mkdir()
    number = np.arange(FRAMES)
    for name in episodes:
        np.savez(
            folder / "labels" / f"{name}.npz",
            actions=number[:-1, None] * [1.0, 0, 0, 0] + [0, 0, 0, 0.5],
            ee_pos=number[:, None] * [0.01, 0.02, 0.03],
            gripper_open=1 - 0.1 * number,
            object_pose=np.zeros((FRAMES, 7)),
        )
        for view, cameras in views.items():
            for kind in ("cameras", "depth", "videos"):
                (folder / kind / view).mkdir(parents=True, exist_ok=True)
            np.savez(
                folder / "cameras" / view / f"{name}.npz",
                K=np.eye(3),
                T_cam_world=np.stack(cameras),
            )
            (folder / "depth" / view / f"{name}.npy.xz").write_bytes(b"not read here")
    return folder


def pair(video: str, current: int, future: int) -> PairName:
    return PairName(video, current, future, current / 10, future / 10)
