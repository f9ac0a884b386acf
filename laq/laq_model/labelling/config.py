"""What is labelled, with which model, and how the labels are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import ConfigError
from ..work_units import EngineConfig


@dataclass(frozen=True)
class LabelConfig:
    """Write the action tokens of every pair of a folder of videos, a LeRobot dataset or a feature store."""

    checkpoint: Path = Path("runs/concerto_laq")
    """The run folder of a training run; its encoder and data settings are used."""
    data_dir: str = ""
    """The folder of videos, or the LeRobot dataset, to label."""
    camera: str = ""
    """Camera of a LeRobot dataset; empty: the one that the run was trained on, or the only one."""
    features: str = ""
    """A feature store (precompute) to label instead of videos; for `lerobot`, beside data_dir."""
    output: Path = Path("labels.parquet")
    """The file (`lerobot`: the folder) to write; a second run goes on where the first was cut."""
    format: Literal["parquet", "lapa", "lerobot"] = "parquet"
    """`parquet`: a row a pair, with codes, vectors, errors; `lapa`: JSON lines for LAPA's pretraining;
    `lerobot`: a copy of the LeRobot dataset in data_dir, with the tokens as columns."""
    instructions: str = ""
    """A JSON file {video: text} for the `lapa` rows; videos that it lacks get an empty text."""
    every_n: int = 1
    """Frames between the starts of neighbouring pairs."""
    max_videos: int = 0
    """Label the first N videos only; 0 means all."""
    batch_size: int = 8
    """Pairs that go through the networks at once."""
    part_pairs: int = 512
    """Pairs in a part: what is lost when the process dies."""
    max_skipped_share: float = 0.1
    """Share of the videos that may turn out to be unreadable before the job counts as failed."""
    vggt_weights: str = ""
    """A local VGGT weights file, if the run's own is elsewhere on this machine."""
    concerto_weights: str = ""
    """A local Concerto weights file, if the run's own is elsewhere on this machine."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""
    work: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        for name in ("every_n", "batch_size", "part_pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_videos < 0:
            raise ConfigError(f"max_videos must not be negative, got {self.max_videos}")
        if not 0 <= self.max_skipped_share <= 1:
            raise ConfigError(f"max_skipped_share must be from 0 to 1, got {self.max_skipped_share}")
