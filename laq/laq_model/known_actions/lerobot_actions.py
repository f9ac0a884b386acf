"""Known actions of a LeRobot dataset: its columns ``action`` and ``observation.state``.

A pair's command is the mean over its frames; what the robot did is the difference of its two frames' states.
Both are in the robot's own units (joint angles, say), which differ from dataset to dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..errors import DatasetError
from ..feature_store import PairName
from ..lerobot.columns import dimension_names, read_columns
from ..lerobot.dataset import episode_of, open_lerobot

ACTION, STATE = "action", "observation.state"


def read_lerobot_actions(
    data_dir: Path, names: Sequence[PairName]
) -> dict[str, tuple[Float[np.ndarray, "pairs dims"], tuple[str, ...]]]:
    """Target name → its values for these pairs, and the names of its dimensions; empty without the columns.

    Raises:
        DatasetError: a column that info.json names is missing, or lacks frames of an episode.
    """
    dataset = open_lerobot(data_dir)
    wanted = [name for name in (ACTION, STATE) if name in dataset.features]
    if not wanted:
        return {}
    episodes = [episode_of(name.video) for name in names]
    columns = read_columns(dataset, wanted, episodes=set(episodes))
    found: dict[str, tuple[Float[np.ndarray, "pairs dims"], tuple[str, ...]]] = {}
    for column, target in ((STATE, "state_change"), (ACTION, "action")):
        if column not in wanted:
            continue
        rows = []
        for episode, name in zip(episodes, names, strict=True):
            values, current, future = columns[column][episode], name.current_index, name.future_index
            if future >= len(values):
                raise DatasetError(
                    f"{data_dir}: episode {episode} has {len(values)} rows, but a pair ends at frame {future}"
                )
            is_command = target == "action"
            rows.append(values[current:future].mean(0) if is_command else values[future] - values[current])
        if len({len(row) for row in rows}) > 1:
            raise DatasetError(f"{data_dir}: {column} must have equally many numbers in every episode")
        matrix = np.stack(rows)
        found[target] = matrix, dimension_names(dataset, column, matrix.shape[1])
    return found
