"""The page of an evaluation: its figures, and what the codes of held-out pairs have in common."""

from __future__ import annotations

import torch

from ..checkpoint import RunFolder
from ..known_actions.actions import ActionFrame
from ..report.code_gallery import GallerySize, code_gallery
from ..report.code_groups import CodedPairs
from ..report.evaluation_result import EvaluationResult
from ..report.known_limits import known_limits
from ..report.pair_frames import PairFrames
from ..report.pair_motion import known_motion
from ..report.run_page import RunPage
from ..trained_run import TrainedRun
from ..video.index import VideoIndex
from .study import TRAINED, Study


def evaluation_page(
    study: Study,
    result: EvaluationResult,
    run: TrainedRun,
    *,
    folder: RunFolder | None,
    index: VideoIndex | None,
    frame: ActionFrame,
) -> RunPage:
    """Everything that needs no network but the action model.

    Args:
        folder: of the training; None for a published model.
        index: the videos, if they are there.
        frame: of the truth's axes.

    Raises:
        LAQError: a frame of the gallery cannot be decoded.
    """
    rows = torch.nonzero(study.is_held_out)[:, 0].tolist()
    pairs = CodedPairs(study.names, study.coded[TRAINED].codes, run.model.config.codebook_size).of(rows)
    gallery, missing = None, []
    frames = PairFrames(index) if index is not None else None
    if frames is not None and all(frames.has(name) for name in pairs.names):
        motion = known_motion(pairs.names, study.truth.of(rows), frames.index.recorded, frame=frame)
        gallery = code_gallery(pairs, frames, motion, GallerySize())
        missing.append(
            "A view of two frames in one world, and the motion as the model sees it: `concerto-laq report`."
        )
    else:
        missing.append("No clips of the codes: the videos are not there (--data_dir).")
    return RunPage(
        title="Evaluation of latent actions",
        metrics=folder.read_metrics() if folder else (),
        evaluation=result,
        told_motion=study.pictures(),
        pairs=pairs,
        gallery=gallery,
        missing=missing,
        limits=known_limits(run.encoder, num_trained_on=len(folder.trained_videos) if folder else None),
        footer="; ".join(f"{name}: {value}" for name, value in result.facts.items()),
    )
