"""Short clips with exact depth and cameras, on which the small embedded networks are trained.

    python -m laq_model.simulation.training_scenes --output DIR --num_clips 2400

One shard is ``rgb_XXXX.npy`` uint8 [clips, 4, size, size, 3], ``depth_XXXX.npy`` uint16 millimetres along
the optical axis [clips, 4, size, size] (0: beyond 8 m), and ``cameras_XXXX.npz`` with K [clips, 3, 3] (pixels
of these images, integer pixel centres), cam_from_world [clips, 4, 3, 4] (OpenCV axes, metres), task [clips].
The shards ``heldout_*`` come from tasks that no other shard has; the demo pack's tasks are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from .appearance import randomize_appearance
from .camera_paths import MOVES, draw_path
from .render import SceneRenderer
from .rollout import roll_out

TRAINING_TASKS = (
    "assembly-v3",
    "basketball-v3",
    "bin-picking-v3",
    "box-close-v3",
    "button-press-topdown-v3",
    "button-press-v3",
    "coffee-button-v3",
    "coffee-pull-v3",
    "dial-turn-v3",
    "door-lock-v3",
    "door-open-v3",
    "drawer-open-v3",
    "faucet-open-v3",
    "hammer-v3",
    "hand-insert-v3",
    "handle-pull-v3",
    "peg-insert-side-v3",
    "pick-place-v3",
    "plate-slide-side-v3",
    "push-v3",
    "shelf-place-v3",
    "soccer-v3",
    "stick-push-v3",
    "sweep-v3",
    "window-open-v3",
)
HELD_OUT_TASKS = ("pick-out-of-hole-v3", "push-back-v3", "window-close-v3", "faucet-close-v3")
VIEWS = 4
CLIPS_PER_EPISODE = 6
MAX_DEPTH_M = 8.0


@dataclass(frozen=True)
class TrainingScenesConfig:
    """Render training clips; shards that exist are kept, so an interrupted run goes on."""

    output: Path
    """Folder for the shards."""
    num_clips: int = 2400
    """Training clips of four frames."""
    num_held_out: int = 96
    """Clips of the held-out tasks."""
    clips_per_shard: int = 48
    """Clips in one shard; a multiple of six, the clips of one episode."""
    size: int = 112
    """Side of the pictures, in pixels."""
    first_shard: int = 0
    """First shard to render; with shard_step, several processes share the work."""
    shard_step: int = 1
    """Render every n-th shard."""
    seed: int = 0
    """Another seed gives other episodes, colours and cameras."""


def render_training_scenes(config: TrainingScenesConfig) -> None:
    """Write all shards that are not there yet."""
    config.output.mkdir(parents=True, exist_ok=True)
    held_out = config.num_held_out // config.clips_per_shard
    shards: list[tuple[str, tuple[str, ...], int]] = [
        ("heldout_", HELD_OUT_TASKS, 10_000 + number) for number in range(held_out)
    ]
    shards += [("", TRAINING_TASKS, number) for number in range(config.num_clips // config.clips_per_shard)]
    for prefix, tasks, number in tqdm(shards[config.first_shard :: config.shard_step], desc="shards"):
        if not (config.output / f"{prefix}rgb_{number:04d}.npy").exists():
            _render_shard(config, prefix, tasks, number)


def _render_shard(config: TrainingScenesConfig, prefix: str, tasks: tuple[str, ...], number: int) -> None:
    clips = []
    episodes = config.clips_per_shard // CLIPS_PER_EPISODE
    for episode in range(episodes):
        task = tasks[(number * episodes + episode) % len(tasks)]
        clips += _render_episode(task, np.random.default_rng([config.seed, number, episode]), config.size)
    rgb, depth, intrinsics, cam_from_world, task_names = zip(*clips, strict=True)
    cameras = config.output / f"{prefix}cameras_{number:04d}.npz"
    np.savez(
        cameras, K=np.stack(intrinsics), cam_from_world=np.stack(cam_from_world), task=np.array(task_names)
    )
    _save(config.output / f"{prefix}depth_{number:04d}.npy", np.stack(depth))
    # Last and in one step: its presence says that the shard is whole.
    _save(config.output / f"{prefix}rgb_{number:04d}.npy", np.stack(rgb))


def _render_episode(task: str, rng: np.random.Generator, size: int) -> list[tuple]:
    """Six clips of one roll-out, each with its own colours, camera and moment."""
    rollout = roll_out(task, seed=int(rng.integers(2**31)), num_frames=64, steps_per_frame=2)
    renderer = SceneRenderer(rollout.model, size=size)
    clips = []
    for _ in range(CLIPS_PER_EPISODE):
        randomize_appearance(rollout.model, rng)
        spacing = int(rng.integers(2, 8))
        first = int(rng.integers(0, 64 - spacing * (VIEWS - 1)))
        frames = first + spacing * np.arange(VIEWS)
        # A third of the clips have a camera that stands still, as most videos of arms do.
        move = str(rng.choice(["fixed", *MOVES], p=[0.34, 0.22, 0.22, 0.22]))
        path = draw_path(rng, num_frames=64, size=size, move=move)
        pictures = [renderer.draw(rollout.qpos[frame], path, int(frame)) for frame in frames]
        depth_m = np.stack([depth for _, depth in pictures])
        depth_mm = np.where(depth_m < MAX_DEPTH_M, np.rint(depth_m * 1000), 0).astype(np.uint16)
        rgb = np.stack([picture for picture, _ in pictures])
        clips.append((rgb, depth_mm, path.intrinsics, path.cam_from_world[frames, :3], task))
    renderer.close()
    return clips


def _save(target: Path, array: np.ndarray) -> None:
    temporary = target.with_suffix(".tmp.npy")
    np.save(temporary, array)
    temporary.replace(target)


if __name__ == "__main__":
    render_training_scenes(tyro.cli(TrainingScenesConfig, config=(tyro.conf.OmitArgPrefixes,)))
