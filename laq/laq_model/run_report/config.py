"""Which run is reported on, with which videos, and how much is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from ..errors import ConfigError
from ..report.code_gallery import GallerySize


@dataclass(frozen=True)
class RunReportConfig:
    """Write a page about a trained run: its training, what its tokens tell, and what each code means."""

    checkpoint: tyro.conf.Positional[Path] = Path("runs/concerto_laq")
    """The run folder of a training run, or the folder of a published model."""
    output: str = ""
    """The page to write; empty: report.html in the run folder."""
    data_dir: str = ""
    """The folder of videos, or the LeRobot dataset, to show; empty: the one that the run was trained on."""
    features: str = ""
    """A feature store (precompute) of these videos, instead of encoding them now; empty: the one that the run
    was trained from, where it is still there and no other data_dir is given."""
    evaluation: str = ""
    """An evaluation.json of this run; empty: that in its folder."""
    videos: Literal["held_out", "all"] = "held_out"
    """Show pairs of videos that the run was not trained on, or of all."""
    view: str = ""
    """One camera of the recorded layout (fixed, moving, still); empty: all there are."""
    camera: str = ""
    """Camera of a LeRobot dataset; empty: the one that the run was trained on, or the only one."""
    max_videos: int = 0
    """Show pairs of the first N of these videos only; 0 means all."""
    every_n: int = 0
    """Frames between the starts of neighbouring pairs; 0: the frame offset, so that a pair begins where one
    ends, or all pairs of a store."""
    batch_size: int = 8
    """Pairs that go through the networks at once."""
    vggt_weights: str = ""
    """A local VGGT weights file, if the run's own is elsewhere on this machine."""
    concerto_weights: str = ""
    """A local Concerto weights file, if the run's own is elsewhere on this machine."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""
    gallery: GallerySize = field(default_factory=GallerySize)

    def __post_init__(self) -> None:
        for name in ("every_n", "max_videos"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
