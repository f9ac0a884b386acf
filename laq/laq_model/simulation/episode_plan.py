"""What an episode will be, decided by its name and seed alone: no picture, no simulator, no order of making.

The plan of ``reach-002`` is the same whether three or three hundred episodes are made, whichever views are
filmed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .camera_paths import MOVES, CameraPath, draw_path

View = Literal["fixed", "moving", "still"]
VIEWS: tuple[View, ...] = get_args(View)


@dataclass(frozen=True)
class EpisodePlan:
    """One episode before it is made.

    Attributes:
        name: of its files, such as reach-002.
        task: of Meta-World, such as reach-v3.
        seed: of the roll-out: places of the objects, noise and detours.
    """

    name: str
    task: str
    seed: int

    def appearance_rng(self) -> np.random.Generator:
        """Draws the colours and lights."""
        return np.random.default_rng([self.seed, 0xC0])

    def camera_path(self, view: View, *, attempt: int, num_frames: int, size: int) -> CameraPath:
        """Where this view's camera could stand, another place for each attempt; only ``fixed`` stays."""
        rng = np.random.default_rng([self.seed, 0xCA, VIEWS.index(view), attempt])
        move = "fixed" if view == "fixed" else str(rng.choice(MOVES))
        return draw_path(rng, num_frames=num_frames, size=size, move=move)


def states_filmed(view: View, num_frames: int) -> list[int]:
    """The roll-out's state in each frame of a view: all in turn, or the middle one alone for ``still``."""
    return [num_frames // 2 if view == "still" else frame for frame in range(num_frames)]


def plan_episodes(tasks: tuple[str, ...], *, episodes_per_task: int, seed: int) -> list[EpisodePlan]:
    """Plans of all episodes, task by task."""
    return [
        EpisodePlan(
            name=f"{task.removesuffix('-v3')}-{number:03d}",
            task=task,
            seed=int(np.random.default_rng([seed, zlib.crc32(task.encode()), number]).integers(2**31)),
        )
        for task in tasks
        for number in range(episodes_per_task)
    ]
