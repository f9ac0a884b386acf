"""What is evaluated, on which data, against which controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError
from ..rivals import Rival


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a trained run on episodes that it never saw, beside controls."""

    checkpoint: Path = Path("runs/concerto_laq")
    """The run folder of a training run; its encoder and data settings are used."""
    data_dir: str = ""
    """Videos with known actions: the recorded layout, a LeRobot dataset, or any videos beside an
    actions.parquet (docs/data-formats.md). Empty: the folder that the run was trained on."""
    features: str = ""
    """A feature store (precompute) of these videos, instead of encoding them now."""
    output_dir: str = ""
    """Folder for evaluation.json, .md and .html; empty: `evaluation` in the run folder."""
    shuffled_run: str = ""
    """The run folder of a control, trained with --shuffle_pairs and otherwise the same flags."""
    rivals: tuple[Rival, ...] = ()
    """Rivals to train on the run's own pairs with its budget, and to measure beside it: `pixels` (patches of
    colours, no geometry), `camera_frame` (its features by image patch, each frame alone). Each costs about a
    training; they are kept, and go on, in `rivals` of the output folder. Empty: none."""
    pixel_frame_size: int = 112
    """Side of the frames that the rival `pixels` sees, in pixels."""
    pixel_patch_size: int = 14
    """Side of its patches, in pixels; the default gives LAPA's 8 x 8."""
    frame: Literal["auto", "world", "camera"] = "auto"
    """Axes of the true motion: of the recorded `world`, or of the current `camera`, levelled. auto: camera
    where geometry was predicted from pictures, which cannot say where a robot's axes point; else world."""
    is_new_data: bool = False
    """Nothing in data_dir was trained on, even where names of videos are the same."""
    every_n: int = 1
    """Frames between the starts of neighbouring pairs."""
    view: str = ""
    """One camera of the recorded layout (fixed, moving, still); empty: all there are."""
    camera: str = ""
    """Camera of a LeRobot dataset; empty: the one that the run was trained on, or the only one."""
    max_videos: int = 0
    """Use the first N videos only; 0 means all."""
    batch_size: int = 16
    """Pairs that go through the networks at once."""
    probe_kinds: tuple[Literal["linear", "mlp"], ...] = ("linear", "mlp")
    """Which probes are fitted; MLPs take most of an evaluation's time."""
    probe_seeds: int = 3
    """Fits of each probe, on other episodes and from other weights; figures have a spread."""
    seed: int = 0
    """Seeds the controls and the probes."""
    vggt_weights: str = ""
    """A local VGGT weights file, if the run's own is elsewhere on this machine."""
    concerto_weights: str = ""
    """A local Concerto weights file, if the run's own is elsewhere on this machine."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""

    def __post_init__(self) -> None:
        for name in ("every_n", "batch_size", "probe_seeds", "pixel_frame_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.pixel_patch_size < 1 or self.pixel_frame_size % self.pixel_patch_size:
            raise ConfigError(
                f"pixel_patch_size must divide pixel_frame_size, "
                f"got {self.pixel_patch_size} for {self.pixel_frame_size}"
            )
        if not self.probe_kinds:
            raise ConfigError("probe_kinds must name at least one kind: linear, mlp")
        if self.max_videos < 0:
            raise ConfigError(f"max_videos must not be negative, got {self.max_videos}")
