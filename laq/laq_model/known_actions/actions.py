"""What truly happened in each pair: motion of hand and gripper, the commands, and the camera's own motion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..feature_store import PairName
from ..lerobot.dataset import is_lerobot
from ..video.recorded_geometry import has_geometry, has_labels, is_recorded, read_cameras, read_labels
from .action_table import ACTIONS_FILE, read_action_table
from .lerobot_actions import read_lerobot_actions

ActionFrame = Literal["world", "camera"]

# OpenCV camera (x right, y down, z forward) to the levelled frame of the tokens (x right, y forward, z up).
LEVEL_FROM_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

# A frozen scene before a moving camera: nothing happens, whatever the episode's labels say.
STILL_VIEW = "still"

_AXES = ("x", "y", "z")
_COMMANDS = (*_AXES, "gripper", *(f"command_{number}" for number in range(4, 64)))


@dataclass(frozen=True)
class Target:
    """Something that a probe is asked to tell.

    Attributes:
        dimensions: their names.
    """

    values: Float[Tensor, "pairs dims"]
    dimensions: tuple[str, ...]


@dataclass(frozen=True)
class TrueActions:
    """The truth about each pair.

    Attributes:
        episode: which roll-out; views of one share it.
        view: which camera; empty where the layout has none.
        targets: ``ee_displacement`` (metres), ``gripper`` (change of the opening), ``action`` (mean command,
            in the robot's own units), ``state_change`` (of a LeRobot dataset); those that are known.
        camera_motion: turn (rotation vector, radians) and shift (metres) of the camera from the current
            frame to the future one, in axes of the current camera; None where cameras are not known.
    """

    episode: list[str]
    view: list[str]
    targets: Mapping[str, Target] = field(default_factory=dict)
    camera_motion: Target | None = None

    def of(self, rows: Sequence[int]) -> TrueActions:
        """Of some of the pairs."""
        chosen = list(rows)

        def part(target: Target) -> Target:
            return Target(target.values[chosen], target.dimensions)

        return TrueActions(
            [self.episode[row] for row in rows],
            [self.view[row] for row in rows],
            {name: part(target) for name, target in self.targets.items()},
            part(self.camera_motion) if self.camera_motion else None,
        )


def natural_frame(geometry: str) -> ActionFrame:
    """The axes in which a model can know motion, given where its depth and cameras come from: those of the
    recorded world, or the camera's own where no picture says where a robot's axes point.
    """
    return "world" if geometry == "sensor" else "camera"


def episode_and_view(video: str) -> tuple[str, str]:
    """(NAME, VIEW) of ``videos/VIEW/NAME.webm``; any other path is an episode of its own, without view."""
    path = PurePosixPath(video)
    is_view = len(path.parts) == 3 and path.parts[0] == "videos"
    return (path.stem, path.parts[1]) if is_view else (video, "")


def true_actions(names: Sequence[PairName], data_dir: str, *, frame: ActionFrame) -> TrueActions:
    """Look the pairs up in recorded labels, a LeRobot dataset or an action table; else nothing is known.

    ``frame="camera"`` turns motion into the current camera's levelled frame. That is the world in which RGB
    alone can know it: no picture says where the robot's own axes point. Tables are taken as they are.

    Raises:
        DatasetError: labels, cameras or rows of a video are damaged, or missing in a folder that has some.
    """
    placed = [episode_and_view(name.video) for name in names]
    episode, view = [episode for episode, _ in placed], [view for _, view in placed]
    found = {}
    if data_dir and is_lerobot(data_dir):
        found = read_lerobot_actions(Path(data_dir), names)
    elif data_dir and is_recorded(data_dir) and has_labels(data_dir):
        return _recorded_actions(names, episode, view, Path(data_dir), frame=frame)
    elif data_dir and (Path(data_dir) / ACTIONS_FILE).is_file():
        found = read_action_table(Path(data_dir), names)
    targets = {
        name: Target(torch.tensor(values, dtype=torch.float32), dimensions)
        for name, (values, dimensions) in found.items()
    }
    return TrueActions(episode, view, targets)


def _recorded_actions(
    names: Sequence[PairName],
    episode: list[str],
    view: list[str],
    data_dir: Path,
    *,
    frame: ActionFrame,
) -> TrueActions:
    labels = {name: read_labels(data_dir, name) for name in dict.fromkeys(episode)}
    has_cameras = all(has_geometry(data_dir, v, e) for e, v in dict.fromkeys(zip(episode, view, strict=True)))
    cameras = {
        place: read_cameras(data_dir, place[1], place[0]).cam_from_world
        for place in dict.fromkeys(zip(episode, view, strict=True))
        if has_cameras or frame == "camera"
    }
    displacement, gripper, action = np.zeros((len(names), 3)), np.zeros((len(names), 1)), []
    motion = np.zeros((len(names), 6))
    for row, (name, e, v) in enumerate(zip(names, episode, view, strict=True)):
        current, future = name.current_index, name.future_index
        if (e, v) in cameras:
            motion[row] = _camera_motion(cameras[e, v][current], cameras[e, v][future])
        command = labels[e].actions[current:future].mean(axis=0)
        if v == STILL_VIEW:
            action.append(np.zeros_like(command))
            continue
        displacement[row] = labels[e].ee_pos_m[future] - labels[e].ee_pos_m[current]
        gripper[row] = labels[e].gripper_open[future] - labels[e].gripper_open[current]
        if frame == "camera":
            level_from_world = LEVEL_FROM_CAMERA @ cameras[e, v][current, :3, :3]
            displacement[row] = level_from_world @ displacement[row]
            command[:3] = level_from_world @ command[:3]
        action.append(command)
    commands = np.stack(action) if action else np.zeros((0, 4))
    return TrueActions(
        episode,
        view,
        {
            "ee_displacement": Target(_float(displacement), _AXES),
            "gripper": Target(_float(gripper), ("opening",)),
            "action": Target(_float(commands), _COMMANDS[: commands.shape[1]]),
        },
        Target(_float(motion), ("turn_x", "turn_y", "turn_z", "shift_x", "shift_y", "shift_z"))
        if has_cameras
        else None,
    )


def _camera_motion(
    current: Float[np.ndarray, "4 4"], future: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, " 6"]:
    """Turn and shift of the future camera, seen from the current one."""
    current_from_future = current @ np.linalg.inv(future)
    return np.concatenate([rotation_vector(current_from_future[:3, :3]), current_from_future[:3, 3]])


def rotation_vector(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """Axis times angle, in radians, for turns below half a circle."""
    sine_axis = 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine = float(np.linalg.norm(sine_axis))
    angle = float(np.arctan2(sine, (np.trace(rotation) - 1) / 2))
    return sine_axis * (angle / sine if sine > 1e-12 else 1.0)


def _float(values: Float[np.ndarray, "pairs dims"]) -> Float[Tensor, "pairs dims"]:
    return torch.tensor(values, dtype=torch.float32)
