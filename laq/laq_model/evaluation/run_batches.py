"""The evaluated pairs through a run's own encoder, here."""

from __future__ import annotations

import torch

from ..concerto_wrapper import build_encoder
from ..token_batches import Batches, encoded_batches
from ..trained_run import TrainedRun
from ..video.index import VideoIndex
from ..webm_dataset import VideoDataConfig
from .config import EvaluateConfig

ADVICE = "Evaluate with the encoder that the model was trained with"


def batches_of_run(
    config: EvaluateConfig,
    run: TrainedRun,
    index: VideoIndex,
    data: VideoDataConfig,
    device: torch.device,
) -> Batches:
    """Every n-th pair of the videos, through the run's encoder.

    Raises:
        LAQError: missing weights, or other weights than the run's; a video that breaks while it is read.
    """
    settings = run.encoder_here(
        data,
        vggt_weights=config.vggt_weights,
        concerto_weights=config.concerto_weights,
        advice=ADVICE,
    )
    return encoded_batches(
        build_encoder(settings, device=device),
        index,
        data,
        every_n=config.every_n,
        batch_size=config.batch_size,
        device=device,
        with_sensor=settings.geometry != "vggt",
        task="evaluate",
    )
