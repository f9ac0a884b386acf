"""Videos of a bright square that goes left, goes right or stays: what happens is in the pixels alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from laq_model.concerto_laq import ConcertoLAQConfig
from laq_model.rivals.budget import Budget
from laq_model.rivals.config import PixelLAQConfig, rival_of
from laq_model.rivals.same_pairs import RunPairs
from laq_model.training.config import LoggingConfig, OptimizationConfig
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import VideoIndex, build_index
from laq_model.video.pairs import PairPlan
from tiny_training import MODEL
from written_videos import write_video

SIDE, OFFSET = 32, 5


def square_at(column: int, row: int = 10) -> np.ndarray:
    frame = np.full((SIDE, SIDE, 3), 30, np.uint8)
    frame[row : row + 8, column % SIDE : column % SIDE + 8] = (220, 180, 60)
    return frame


def write_squares(folder: Path) -> VideoIndex:
    """Two videos for each direction. All pass the same places: the first frame does not tell the way."""
    places = [4, 6, 8, 10, 12, 14, 16, 18, 20]
    ways = {"left": places[::-1], "right": places, "still0": [12] * 9, "still1": [8] * 9}
    for name, columns in ways.items():
        for row in (6, 16):
            write_video(folder / f"{name}_{row}.webm", [square_at(column, row) for column in columns])
    return build_index(VideoDataConfig(data_dir=str(folder), num_workers=1))


def all_pairs_of(index: VideoIndex) -> RunPairs:
    starts = [entry.num_frames - OFFSET for entry in index.videos]
    return RunPairs(index.videos, PairPlan(starts, stretch=1), every_n=1, frame_offset=OFFSET, seed=0)


def pixel_config(**changes) -> PixelLAQConfig:
    model: ConcertoLAQConfig = replace(MODEL, **changes)
    return rival_of(model, frame_size=SIDE, patch_size=8)


def budget(**changes) -> Budget:
    options = OptimizationConfig(
        **{"batch_size": 8, "num_steps": 12, "learning_rate": 3e-3, "statistics_pairs": 16, **changes}
    )
    return Budget(options, LoggingConfig(save_every=5, log_every=1))
