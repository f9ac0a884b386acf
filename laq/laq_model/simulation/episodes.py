"""Episodes of any tasks, each filmed by several cameras, in the recorded layout.

python -m laq_model.simulation.episodes --output DIR --tasks reach-v3 drawer-close-v3 --episodes_per_task 3
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from .appearance import randomize_appearance
from .camera_paths import MOVES, draw_path
from .episode_writer import EpisodeLabels, write_index, write_labels, write_view
from .render import SceneRenderer
from .rollout import roll_out

DEMO_TASKS = (
    "reach-v3",
    "drawer-close-v3",
    "door-close-v3",
    "plate-slide-v3",
    "coffee-push-v3",
    "lever-pull-v3",
    "handle-press-v3",
    "sweep-into-v3",
)


@dataclass(frozen=True)
class EpisodesConfig:
    """Film scripted episodes; the defaults make the demo pack."""

    output: Path
    """Folder for the episodes."""
    tasks: tuple[str, ...] = DEMO_TASKS
    """Meta-World tasks."""
    episodes_per_task: int = 3
    """Roll-outs of each task, with their own colours, lights and cameras."""
    num_frames: int = 56
    """Frames of a roll-out."""
    steps_per_frame: int = 2
    """Control steps between frames."""
    size: int = 224
    """Side of the videos, in pixels."""
    views: tuple[str, ...] = ("fixed", "moving")
    """fixed, moving (the same states), still (a frozen state, a moving camera)."""
    fps: int = 10
    """Frames per second that the videos claim."""
    depth_reduction: int = 4
    """Depth is kept for every n-th pixel in both directions."""
    depth_step_mm: int = 4
    """Depth is rounded to this step."""
    crf: int = 36
    """VP9's constant quality, 0 best to 63 smallest."""
    seed: int = 1
    """Another seed gives other episodes."""


def make_episodes(config: EpisodesConfig) -> None:
    """Film every episode; the same seed gives the same pictures on the same graphics driver."""
    config.output.mkdir(parents=True, exist_ok=True)
    episodes = []
    numbered = [(task, number) for task in config.tasks for number in range(config.episodes_per_task)]
    for task, number in tqdm(numbered, desc="episodes"):
        name = f"{task.removesuffix('-v3')}-{number:03d}"
        seed = int(np.random.default_rng([config.seed, len(episodes)]).integers(2**31))
        moves = _film(config, task, name, seed)
        episodes.append(
            {"name": name, "task": task, "frames": config.num_frames, "seed": seed, "camera": moves}
        )
    write_index(config.output, fps=config.fps, size=config.size, views=list(config.views), episodes=episodes)


def _film(config: EpisodesConfig, task: str, name: str, seed: int) -> dict[str, str]:
    """Roll out, colour, and film one episode from every view; gives each view's camera move."""
    rollout = roll_out(task, seed=seed, num_frames=config.num_frames, steps_per_frame=config.steps_per_frame)
    rng = np.random.default_rng([seed, 0xF11])
    randomize_appearance(rollout.model, rng)
    renderer = SceneRenderer(rollout.model, size=config.size)
    moves = {}
    for view in config.views:
        move = "fixed" if view == "fixed" else str(rng.choice(MOVES))
        path = draw_path(rng, num_frames=config.num_frames, size=config.size, move=move)
        frozen = config.num_frames // 2
        states = [frozen if view == "still" else frame for frame in range(config.num_frames)]
        pictures = [renderer.draw(rollout.qpos[state], path, frame) for frame, state in enumerate(states)]
        write_view(
            config.output,
            view=view,
            name=name,
            rgb=np.stack([rgb for rgb, _ in pictures]),
            depth_m=np.stack([depth for _, depth in pictures]),
            path=path,
            fps=config.fps,
            depth_reduction=config.depth_reduction,
            depth_step_mm=config.depth_step_mm,
            crf=config.crf,
        )
        moves[view] = move
    renderer.close()
    labels = EpisodeLabels(rollout.actions, rollout.ee_pos_m, rollout.gripper_open, rollout.object_pose)
    write_labels(config.output, name, labels)
    return moves


if __name__ == "__main__":
    make_episodes(tyro.cli(EpisodesConfig, use_underscores=True))
