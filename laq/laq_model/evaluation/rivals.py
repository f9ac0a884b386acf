"""The rivals that an evaluation asks for: trained as the run was, as far as they are not trained yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from ..checkpoint import RUN_FILE, RunFolder
from ..errors import RunError
from ..feature_store import FeatureStore
from ..rivals import Rival
from ..rivals.budget import budget_of_run
from ..rivals.camera_frame import CameraFrameRival
from ..rivals.config import rival_of
from ..rivals.same_pairs import pairs_of_run, training_folder
from ..rivals.train_pixels import train_pixels
from ..trained_run import TrainedRun, open_trained_run
from ..video.index import build_index
from .config import EvaluateConfig
from .rival_codes import CameraFrameCoder, PixelCoder, RivalCoder

RIVALS_FOLDER = "rivals"


def train_rivals(
    config: EvaluateConfig,
    run: TrainedRun,
    run_folder: RunFolder | None,
    output: Path,
    device: torch.device,
) -> dict[Rival, RivalCoder]:
    """Train the rivals that ``config`` names, as far as they are not trained yet, in ``output/rivals``.

    Args:
        run_folder: of the training; None for a published model.

    Raises:
        LAQError: the run is a published model, its videos are not there, or a rival of other settings is.
        KeyboardInterrupt: Ctrl-C came; what is done is kept, and the same command goes on.
        SystemExit: SIGTERM came; likewise.
    """
    if not config.rivals:
        return {}
    if run_folder is None:
        raise RunError(
            f"--rivals are trained as the run was, and {config.checkpoint} does not say how (it has no "
            f"{RUN_FILE}); give the run folder of the training"
        )
    record = run_folder.record
    data = training_folder(
        record, run.data, data_dir="" if config.is_new_data else config.data_dir, camera=config.camera
    )
    budget = budget_of_run(record["config"], config.checkpoint)
    folder = output / RIVALS_FOLDER
    rivals: dict[Rival, RivalCoder] = {}
    if "pixels" in config.rivals:
        index = build_index(data)
        model = train_pixels(
            folder / "pixels",
            rival_of(
                run.model.config, frame_size=config.pixel_frame_size, patch_size=config.pixel_patch_size
            ),
            budget,
            pairs=pairs_of_run(record, index),
            index=index,
            num_workers=data.num_workers,
            device=device,
        )
        rivals["pixels"] = PixelCoder(model)
    if "camera_frame" in config.rivals:
        rival = CameraFrameRival(
            folder=folder / "camera_frame",
            record=record,
            model=run.model.config,
            encoder=replace(
                run.encoder,
                vggt_weights=config.vggt_weights or run.encoder.vggt_weights,
                concerto_weights=config.concerto_weights or run.encoder.concerto_weights,
            ),
            data=data,
            budget=budget,
            batch_size=config.batch_size,
            device=_kind_of(device),
        )
        rival.train()
        store = FeatureStore(rival.store_folder) if rival.store_folder else None
        rivals["camera_frame"] = CameraFrameCoder(
            open_trained_run(rival.run_folder, device=device), store, device
        )
    return rivals


def _kind_of(device: torch.device) -> Literal["", "cpu", "cuda"]:
    return "cpu" if device.type == "cpu" else "cuda" if device.type == "cuda" else ""
