"""What the hand truly did in each pair, for data in the recorded layout, and who filmed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..feature_store import PairName
from ..video.recorded_geometry import episode_name, open_recorded, read_cameras, read_labels, view_name

ActionFrame = Literal["world", "camera"]

# OpenCV camera (x right, y down, z forward) to the levelled frame of the tokens (x right, y forward, z up).
LEVEL_FROM_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class TrueActions:
    """The hand's displacement between the two frames of each pair.

    Attributes:
        hand_displacement_m: metres, in the frame that was asked for.
        episode: name of the physics roll-out; views of one roll-out share it.
        view: which camera filmed the pair.
    """

    hand_displacement_m: Float[Tensor, "pairs 3"]
    episode: list[str]
    view: list[str]


def true_actions(names: Sequence[PairName], data_dir: str | Path, *, frame: ActionFrame) -> TrueActions:
    """Look the pairs up in the recorded labels.

    ``frame="camera"`` turns the displacement into the current camera's levelled frame. That is the world in which
    RGB alone can know it: no picture says where the robot's own axes point.

    Raises:
        DatasetError: the folder has no labels, or lacks those of a video.
    """
    open_recorded(data_dir)
    displacement = np.zeros((len(names), 3))
    for row, name in enumerate(names):
        episode, view = episode_name(name.video), view_name(name.video)
        hand = read_labels(data_dir, episode).ee_pos_m
        displacement[row] = hand[name.future_index] - hand[name.current_index]
        if frame == "camera":
            rotation = read_cameras(data_dir, view, episode).cam_from_world[name.current_index, :3, :3]
            displacement[row] = LEVEL_FROM_CAMERA @ rotation @ displacement[row]
    return TrueActions(
        hand_displacement_m=torch.tensor(displacement, dtype=torch.float32),
        episode=[episode_name(name.video) for name in names],
        view=[view_name(name.video) for name in names],
    )
