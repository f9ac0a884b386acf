"""Short clips with exact depth and cameras, on which the small embedded networks are trained.

    python -m laq_model.simulation.training_scenes --output DIR --num_clips 2400

One shard is ``rgb_XXXX.npy`` uint8 [clips, 4, size, size, 3], ``depth_XXXX.npy`` uint16 millimetres along
the optical axis [clips, 4, size, size] (0: beyond 8 m), ``instances_XXXX.npy`` uint8 [clips, 4, size, size],
the number of the thing that each pixel shows, and ``cameras_XXXX.npz`` with K [clips, 3, 3] (pixels of these
images, integer pixel centres), cam_from_world [clips, 4, 3, 4] (OpenCV axes, metres), task [clips], and
kind_of_instance [clips, 255], what kind of thing each number is (``instances.KINDS``).

Scenes are Meta-World tasks, and tables and rooms of random shapes. The shards ``heldout_*`` come from tasks
that no other shard has, those of ``heldout_tabletop_*`` and ``heldout_room_*`` from other random scenes; the
demo pack's tasks are in none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from .appearance import randomize_appearance
from .camera_paths import MOVES, TABLE_FROM_THE_FRONT, draw_path
from .instances import MAX_BODIES, kinds_of_bodies
from .random_scenes import RANDOM_SCENES, random_scene
from .render import SceneRenderer
from .rollout import roll_out

TRAINING_TASKS: tuple[str, ...] = (
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
HELD_OUT_TASKS: tuple[str, ...] = (
    "pick-out-of-hole-v3",
    "push-back-v3",
    "window-close-v3",
    "faucet-close-v3",
)
VIEWS = 4
CLIPS_PER_EPISODE = 6
FRAMES_PER_EPISODE = 64
# Where each family's shards begin, so that more of one leave the others' names and seeds as they are.
HELD_OUT_SHARD, RANDOM_SHARD = 10_000, 20_000
HELD_OUT_RANDOM_SHARD = {"tabletop": 30_000, "room": 35_000}
MAX_DEPTH_M = 8.0


@dataclass(frozen=True)
class TrainingScenesConfig:
    """Render training clips; shards that exist are kept, so an interrupted run goes on."""

    output: Path
    """Folder for the shards."""
    num_clips: int = 2400
    """Training clips of four frames, of Meta-World tasks."""
    num_random_clips: int = 1200
    """Training clips of random tables and rooms."""
    num_held_out: int = 96
    """Clips of the held-out tasks, and as many of held-out tables and of held-out rooms."""
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
    shards = [("heldout_", HELD_OUT_TASKS, HELD_OUT_SHARD + number) for number in range(held_out)]
    for kind, first in HELD_OUT_RANDOM_SHARD.items():
        shards += [(f"heldout_{kind}_", (kind,), first + number) for number in range(held_out)]
    trained = [("", TRAINING_TASKS, number) for number in range(config.num_clips // config.clips_per_shard)]
    trained += [
        ("", tuple(RANDOM_SCENES), RANDOM_SHARD + number)
        for number in range(config.num_random_clips // config.clips_per_shard)
    ]
    # Both families from the start, so that a training may begin before the last shard is there.
    shards += sorted(trained, key=lambda shard: shard[2] % RANDOM_SHARD)
    for prefix, scenes, number in tqdm(shards[config.first_shard :: config.shard_step], desc="shards"):
        if not (config.output / f"{prefix}rgb_{number:04d}.npy").exists():
            _render_shard(config, prefix, scenes, number)


def _render_shard(config: TrainingScenesConfig, prefix: str, scenes: tuple[str, ...], number: int) -> None:
    clips = []
    episodes = config.clips_per_shard // CLIPS_PER_EPISODE
    for episode in range(episodes):
        scene = scenes[(number * episodes + episode) % len(scenes)]
        clips += _render_episode(scene, np.random.default_rng([config.seed, number, episode]), config.size)
    rgb, depth, instances, intrinsics, cam_from_world, scene_names, kinds = zip(*clips, strict=True)
    np.savez(
        config.output / f"{prefix}cameras_{number:04d}.npz",
        K=np.stack(intrinsics),
        cam_from_world=np.stack(cam_from_world),
        task=np.array(scene_names),
        kind_of_instance=np.stack(kinds),
    )
    _save(config.output / f"{prefix}depth_{number:04d}.npy", np.stack(depth))
    _save(config.output / f"{prefix}instances_{number:04d}.npy", np.stack(instances))
    # Last and in one step: its presence says that the shard is whole.
    _save(config.output / f"{prefix}rgb_{number:04d}.npy", np.stack(rgb))


def _render_episode(scene: str, rng: np.random.Generator, size: int) -> list[tuple]:
    """Six clips of one roll-out or random scene, each with its own colours, camera and moment."""
    model, qpos = _states(scene, rng)
    ranges = RANDOM_SCENES.get(scene, TABLE_FROM_THE_FRONT)
    kinds = np.zeros(MAX_BODIES, dtype=np.uint8)
    kinds[: model.nbody] = kinds_of_bodies(model)
    renderer = SceneRenderer(model, size=size)
    clips = []
    for _ in range(CLIPS_PER_EPISODE):
        randomize_appearance(model, rng)
        spacing = int(rng.integers(2, 8))
        first = int(rng.integers(0, FRAMES_PER_EPISODE - spacing * (VIEWS - 1)))
        frames = first + spacing * np.arange(VIEWS)
        # A third of the clips have a camera that stands still, as most videos of arms do.
        move = str(rng.choice(["fixed", *MOVES], p=[0.34, 0.22, 0.22, 0.22]))
        path = draw_path(rng, num_frames=FRAMES_PER_EPISODE, size=size, move=move, ranges=ranges)
        pictures = [
            (*renderer.draw(qpos[frame], path, int(frame)), renderer.draw_instances()) for frame in frames
        ]
        rgb, depth_m, instances = (np.stack(maps) for maps in zip(*pictures, strict=True))
        depth_mm = np.where(depth_m < MAX_DEPTH_M, np.rint(depth_m * 1000), 0).astype(np.uint16)
        cam_from_world = path.cam_from_world[frames, :3]
        clips.append((rgb, depth_mm, instances, path.intrinsics, cam_from_world, scene, kinds))
    renderer.close()
    return clips


def _states(scene: str, rng: np.random.Generator) -> tuple[Any, NDArray[np.float64]]:
    """The model of a task or of a kind of random scene, and its positions in each frame."""
    if scene in RANDOM_SCENES:
        drawn = random_scene(scene, rng, num_frames=FRAMES_PER_EPISODE)
        return drawn.model, drawn.qpos
    rollout = roll_out(scene, seed=int(rng.integers(2**31)), num_frames=FRAMES_PER_EPISODE, steps_per_frame=2)
    return rollout.model, rollout.qpos


def _save(target: Path, array: np.ndarray) -> None:
    temporary = target.with_suffix(".tmp.npy")
    np.save(temporary, array)
    temporary.replace(target)


if __name__ == "__main__":
    render_training_scenes(tyro.cli(TrainingScenesConfig, config=(tyro.conf.OmitArgPrefixes,)))
