"""The camera-frame rival: the run itself, its point features pooled over image patches, each frame alone.

The same networks, pairs, budget and action model; what it lacks is the shared world. Every frame lies in its
own camera's axes, and a token is a patch of the picture, so a camera's motion looks like a scene's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..checkpoint import RUN_FILE
from ..concerto_laq import ConcertoLAQConfig
from ..encoder_config import EncoderConfig
from ..precompute import PrecomputeConfig, precompute
from ..training.config import TrainConfig
from ..training.loop import train
from ..video.index import build_index
from ..webm_dataset import VideoDataConfig
from .budget import Budget
from .same_pairs import every_n_of, names_of, refuse_other_videos

STORE_FOLDER, RUN_FOLDER = "features", "run"


@dataclass(frozen=True)
class CameraFrameRival:
    """What is to be trained, and where.

    Attributes:
        folder: of the rival; it gets a store, if the run was trained from one, and a run folder.
        record: of the run that is rivalled (``run.json``).
        model: its sizes.
        encoder: its encoder, with weights files of this machine.
        data: where its videos lie (see ``training_folder``).
        batch_size: pairs encoded at once.
    """

    folder: Path
    record: Mapping[str, Any]
    model: ConcertoLAQConfig
    encoder: EncoderConfig
    data: VideoDataConfig
    budget: Budget
    batch_size: int
    device: Literal["", "cpu", "cuda"]

    @property
    def run_folder(self) -> Path:
        """Where the trained rival is; a run like any other."""
        return self.folder / RUN_FOLDER

    @property
    def store_folder(self) -> Path | None:
        """Its feature store; None where each step encodes its own pairs, as the run did."""
        return self.folder / STORE_FOLDER if self.record["config"]["features"] else None

    def train(self) -> None:
        """Encode and train what is missing; what is finished is looked at only.

        Raises:
            LAQError: other videos than the run's, missing weights, a folder that holds another rival, or
                what ``precompute`` and ``train`` refuse.
            KeyboardInterrupt: Ctrl-C came; what is done is kept.
            SystemExit: SIGTERM came; likewise.
        """
        encoder = without_world(self.encoder)
        data = replace(self.data, max_videos=len(names_of(self.record)))
        refuse_other_videos(self.record, build_index(data), held_out_fraction=data.held_out_fraction)
        if self.store_folder is not None:
            precompute(
                PrecomputeConfig(
                    output_dir=self.store_folder,
                    every_n=every_n_of(self.record),
                    batch_size=self.batch_size,
                    device=self.device,
                    data=data,
                    encoder=encoder,
                )
            )
        config = TrainConfig(
            features=str(self.store_folder or ""),
            output_dir=self.run_folder,
            resume=(self.run_folder / RUN_FILE).exists(),
            device=self.device,
            data=data,
            encoder=encoder,
            model=self.model,
            optimization=self.budget.optimization,
            logging=self.budget.logging,
        )
        train(config, is_part=True)


def without_world(encoder: EncoderConfig) -> EncoderConfig:
    """The same networks, looking at image patches of single frames."""
    return replace(encoder, pooling="patch", geometry_context="frame", align_views=False)
