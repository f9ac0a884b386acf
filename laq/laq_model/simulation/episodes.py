"""The benchmark: episodes of any tasks, each filmed by several cameras, in the recorded layout.

    concerto-laq benchmark make --output DIR --tasks reach-v3 drawer-close-v3 --episodes_per_task 3

What is finished stays: a second run makes what is missing, and more tasks or episodes are added.
"""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import ConfigError
from .appearance import randomize_appearance
from .camera_choice import NUM_CANDIDATES, choose_path
from .episode_plan import EpisodePlan, View, plan_episodes, states_filmed
from .episode_writer import EpisodeLabels, camera_moves, has_episode, write_index, write_labels, write_view
from .render import SceneRenderer
from .rollout import Rollout, roll_out

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

# What may differ between two runs into one folder; all else decides what an episode of a given name is.
_FREE_TO_CHANGE = ("output", "tasks", "episodes_per_task", "num_workers")


@dataclass(frozen=True)
class EpisodesConfig:
    """Film scripted episodes with known actions, depth and cameras; the defaults make the demo pack."""

    output: Path = Path("benchmark")
    """Folder for the episodes; a second run finishes or extends it."""
    tasks: tuple[str, ...] = DEMO_TASKS
    """Meta-World tasks."""
    episodes_per_task: int = 3
    """Roll-outs of each task, with their own colours, lights and cameras."""
    num_frames: int = 56
    """Frames of a roll-out."""
    steps_per_frame: int = 2
    """Control steps between frames."""
    size: int = 224
    """Side of the videos, in pixels; even."""
    views: tuple[View, ...] = ("fixed", "moving")
    """fixed, moving (the same states), still (a frozen state, a moving camera)."""
    fps: int = 10
    """Frames per second that the videos claim."""
    depth_reduction: int = 4
    """Depth maps are this many times smaller than the videos in both directions; 1 keeps their size."""
    depth_step_mm: int = 4
    """Depth is rounded to this step."""
    crf: int = 36
    """VP9's constant quality, 0 best to 63 smallest."""
    seed: int = 1
    """Another seed gives other episodes."""
    num_workers: int = 1
    """Processes that film side by side."""

    def __post_init__(self) -> None:
        for name in ("episodes_per_task", "steps_per_frame", "fps", "depth_reduction", "num_workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_frames < 2:
            raise ConfigError(f"num_frames must be at least 2, got {self.num_frames}")
        if self.size < 16 or self.size % 2 or self.size % self.depth_reduction:
            raise ConfigError(
                f"size must be even, at least 16 and a multiple of depth_reduction "
                f"{self.depth_reduction}, got {self.size}"
            )
        if not 1 <= self.depth_step_mm <= 100:
            raise ConfigError(f"depth_step_mm must be 1 to 100, got {self.depth_step_mm}")
        if not 0 <= self.crf <= 63:
            raise ConfigError(f"crf must be 0 to 63, got {self.crf}")
        if not self.views or not self.tasks:
            raise ConfigError("give at least one task and one view")


def make_episodes(config: EpisodesConfig) -> list[str]:
    """Film every episode that is not there yet; gives the names of those that were filmed.

    The same seed gives the same bytes on the same graphics driver.

    Raises:
        ConfigError: no simulator or no graphics; or the folder was made with other settings.
    """
    _refuse_other_settings(config)
    plans = plan_episodes(config.tasks, episodes_per_task=config.episodes_per_task, seed=config.seed)
    wanted = [plan for plan in plans if not has_episode(config.output, plan.name)]
    if config.num_workers == 1:
        for plan in tqdm(wanted, desc="episodes"):
            _film(config, plan)
    else:
        # Spawned, not forked: a graphics context does not survive a fork.
        with ProcessPoolExecutor(config.num_workers, mp_context=get_context("spawn")) as pool:
            done = pool.map(_film, [config] * len(wanted), wanted)
            list(tqdm(done, desc="episodes", total=len(wanted)))
    write_index(
        config.output,
        fps=config.fps,
        size=config.size,
        views=list(config.views),
        episodes=[_index_row(config, plan) for plan in plans],
    )
    return [plan.name for plan in wanted]


def _film(config: EpisodesConfig, plan: EpisodePlan) -> None:
    """Roll out, colour, and film one episode from every view."""
    rollout = roll_out(
        plan.task, seed=plan.seed, num_frames=config.num_frames, steps_per_frame=config.steps_per_frame
    )
    randomize_appearance(rollout.model, plan.appearance_rng())
    renderer = SceneRenderer(
        rollout.model, size=config.size, depth_size=config.size // config.depth_reduction
    )
    for view in config.views:
        _film_view(config, plan, view, rollout, renderer)
    renderer.close()
    labels = EpisodeLabels(rollout.actions, rollout.ee_pos_m, rollout.gripper_open, rollout.object_pose)
    write_labels(config.output, plan.name, labels)


def _film_view(
    config: EpisodesConfig, plan: EpisodePlan, view: View, rollout: Rollout, renderer: SceneRenderer
) -> None:
    states = states_filmed(view, config.num_frames)
    qpos = rollout.qpos[states]
    path = choose_path(
        [
            plan.camera_path(view, attempt=attempt, num_frames=config.num_frames, size=config.size)
            for attempt in range(NUM_CANDIDATES)
        ],
        hand_m=rollout.ee_pos_m[states],
        draw_depth=lambda path, frame: renderer.draw_depth(qpos[frame], path, frame),
        size=config.size,
    )
    pictures = [renderer.draw(qpos[frame], path, frame) for frame in range(config.num_frames)]
    write_view(
        config.output,
        view=view,
        name=plan.name,
        rgb=np.stack([rgb for rgb, _ in pictures]),
        depth_m=np.stack([depth for _, depth in pictures]),
        path=path,
        fps=config.fps,
        depth_step_mm=config.depth_step_mm,
        crf=config.crf,
    )


def _index_row(config: EpisodesConfig, plan: EpisodePlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "task": plan.task,
        "frames": config.num_frames,
        "seed": plan.seed,
        "camera": camera_moves(config.output, plan.name, config.views),
    }


def _refuse_other_settings(config: EpisodesConfig) -> None:
    """Keep the settings beside the episodes, so that a folder never mixes two sizes or seeds."""
    plain = dataclasses.asdict(config)
    plain = {name: value for name, value in plain.items() if name not in _FREE_TO_CHANGE}
    settings = json.loads(json.dumps(plain))  # tuples become lists, as they will be read back
    file = config.output / "settings.json"
    try:
        config.output.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(json.dumps(settings, indent=1))
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {file} ({error}); choose another --output") from error
    differing = [
        f"{name} was {found.get(name)!r}, is {settings[name]!r}"
        for name in settings
        if found.get(name) != settings[name]
    ]
    if differing:
        raise ConfigError(
            f"{config.output} was made with other settings ({'; '.join(differing)}); choose another --output"
        )
