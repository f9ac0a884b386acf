"""Roll-outs of Meta-World tasks by the scripted experts, disturbed so that no frame betrays the action.

A deterministic expert's next action can be read from the current picture alone, and a probe would then
measure appearance. So the expert's action gets smooth noise, and now and then a detour replaces it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .camera_paths import smooth_noise
from .simulator import load_metaworld

NOISE = 0.35  # of the action's range [-1, 1]
DETOUR_SHARE = 0.4  # of the control steps


@dataclass(frozen=True)
class Rollout:
    """The states of one episode, and the model that draws them.

    Attributes:
        model: the simulator's model, with this episode's objects in place.
        qpos: [frames, positions], all joint positions.
        actions: [frames - 1, 4], mean of the control actions between two frames: hand x, y, z, gripper.
        ee_pos_m: [frames, 3], the point between the fingers, world metres.
        gripper_open: [frames], 0 closed to 1 open.
        object_pose: [frames, 7], position in metres and scalar-first quaternion, as the task reports it.
    """

    task: str
    model: Any
    qpos: NDArray[np.float64]
    actions: NDArray[np.float32]
    ee_pos_m: NDArray[np.float64]
    gripper_open: NDArray[np.float64]
    object_pose: NDArray[np.float64]


def roll_out(task: str, *, seed: int, num_frames: int, steps_per_frame: int) -> Rollout:
    """Run a task (``reach-v3``, ...) for ``num_frames`` recorded states.

    Raises:
        ConfigError: the simulator is not installed, or has no such task.
    """
    env, policy = _make(task, seed)
    rng = np.random.default_rng([seed, 0x5EED])
    observation, _ = env.reset(seed=seed)
    num_steps = (num_frames - 1) * steps_per_frame
    disturbances = _disturbances(rng, num_steps)
    records = [_record(env, observation)]
    actions = []
    for step in range(num_steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some experts ask for more than the range and say so each step
            expert = np.asarray(policy.get_action(observation), dtype=np.float64)
        is_detour, noise = disturbances[0][step], disturbances[1][step]
        action = np.where([is_detour] * 3 + [False], 2.0 * noise, np.clip(expert, -1, 1) + NOISE * noise)
        action = np.clip(action, -1, 1).astype(np.float32)
        observation = env.step(action)[0]
        actions.append(action)
        if (step + 1) % steps_per_frame == 0:
            records.append(_record(env, observation))
    qpos, ee_pos, gripper, object_pose = (np.stack(column) for column in zip(*records, strict=True))
    return Rollout(
        task=task,
        model=env.model,
        qpos=qpos,
        actions=np.stack(actions).reshape(num_frames - 1, steps_per_frame, 4).mean(axis=1),
        ee_pos_m=ee_pos,
        gripper_open=gripper,
        object_pose=object_pose,
    )


def _make(task: str, seed: int) -> tuple[Any, Any]:
    metaworld, experts = load_metaworld()
    if task not in experts:
        raise ConfigError(f"Meta-World has no task {task!r}; it has {', '.join(sorted(experts))}")
    benchmark = metaworld.MT1(task, seed=seed)
    env = benchmark.train_classes[task]()
    env.set_task(benchmark.train_tasks[seed % len(benchmark.train_tasks)])
    env.max_path_length = 10**9  # episodes end when we say so
    return env, experts[task]()


def _record(env: Any, observation: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    # An observation opens with hand xyz, gripper opening, object xyz and quaternion.
    return (
        env.data.qpos.copy(),
        np.array(env.tcp_center),
        np.array(observation[3]),
        np.array(observation[4:11]),
    )


def _disturbances(rng: np.random.Generator, num_steps: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which steps are detours, and smooth noise for every step and action dimension."""
    is_detour = smooth_noise(rng, num_steps, 1)[:, 0]
    return is_detour > np.quantile(is_detour, 1 - DETOUR_SHARE), smooth_noise(rng, num_steps, 4)
