"""The report job: see ``report``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import torch

from ..checkpoint import find_run
from ..devices import chosen_device
from ..errors import RunError
from ..known_actions.actions import natural_frame, true_actions
from ..report.code_gallery import code_gallery
from ..report.evaluation_result import EvaluationResult, read_evaluation
from ..report.known_limits import known_limits
from ..report.output_file import make_output_folder
from ..report.pair_frames import PairFrames
from ..report.pair_motion import known_motion, seen_motion
from ..report.pair_scene import pair_scene_sections
from ..report.run_page import RunPage, write_run_page
from ..scene_observation import SceneObservation
from ..trained_run import TrainedRun, open_trained_run
from .config import RunReportConfig
from .shown_pairs import ShownPairs, shown_pairs

__all__ = ["RunReportConfig", "report", "report_page"]


def report(config: RunReportConfig) -> Path:
    """Write the page and say where it is; gives its path.

    Raises:
        LAQError: no run, no such videos, missing weights, tokens of another encoder, or a page that cannot
            be written.
    """
    output = Path(config.output) if config.output else config.checkpoint / "report.html"
    if config.checkpoint.is_dir():  # else there is no run, which its reader says better
        make_output_folder(output.parent)
    page = report_page(config)
    print(f"report → {write_run_page(output, page)}")
    return output


def report_page(config: RunReportConfig) -> RunPage:
    """Everything that is known of the run, ready to be written.

    Raises:
        LAQError: as ``report``.
    """
    device = chosen_device(config.device)
    run, folder = open_trained_run(config.checkpoint, device=device), find_run(config.checkpoint)
    missing = [] if folder else ["No training curves: a published model has none."]
    page = RunPage(
        title=f"Latent actions of {config.checkpoint.resolve().name}",
        metrics=folder.read_metrics() if folder else (),
        evaluation=_evaluation(config, run, missing),
        how_to_evaluate=_how_to_evaluate(config),
        limits=known_limits(run.encoder, num_trained_on=len(folder.trained_videos) if folder else None),
        footer=f"run: {config.checkpoint}; model: {run.fingerprint}",
    )
    shown = shown_pairs(config, run, folder, device=device, missing=missing)
    if shown is not None:
        page = _with_pairs(page, config, shown, device=device, missing=missing)
    return replace(page, missing=tuple(missing))


def _with_pairs(
    page: RunPage,
    config: RunReportConfig,
    shown: ShownPairs,
    *,
    device: torch.device,
    missing: list[str],
) -> RunPage:
    """The page with the codes of these pairs; with clips, too, of those whose videos are there."""
    page = replace(page, pairs=shown.pairs)
    if shown.index is None:
        return page
    frames = PairFrames(shown.index)
    rows = [row for row, name in enumerate(shown.pairs.names) if frames.has(name)]
    if not rows:
        missing.append(f"No clips, because {frames.index.root} has none of the store's videos (--data_dir).")
        return page
    if len(rows) < len(shown.pairs.names):
        missing.append(f"Clips are of the {len(rows)} pairs whose videos are in {frames.index.root}.")
    pairs, centres = shown.pairs.of(rows), shown.centres[rows]
    source = shown.build_source() if shown.build_source else None

    def scene_of(row: int) -> SceneObservation:
        assert source is not None
        return frames.scene(
            pairs.names[row], source, shown.encoder, frame_size=shown.data.frame_size, device=device
        )

    frame = natural_frame(shown.encoder.geometry)
    truth = true_actions(pairs.names, shown.data.data_dir, frame=frame)
    known = known_motion(pairs.names, truth, frames.index.recorded, frame=frame)
    seen = seen_motion(centres, scene_of, shown.encoder) if source is not None else None
    motion = known or seen
    gallery = code_gallery(pairs, frames, motion, config.gallery)
    if source is None:
        missing.append(
            "No view of two frames in one world, because the weights of VGGT are not on this machine; give "
            "them with --vggt_weights FILE."
        )
        return replace(page, gallery=gallery)
    # Where the hand is known, its longest way; else where most moved, for a way may be that of a speck.
    row = int((known.shift.norm(dim=1) if known else shown.mass[rows]).argmax())
    return replace(
        page,
        gallery=gallery,
        scene=pair_scene_sections(scene_of(row), pairs.names[row], shown.encoder),
    )


def _evaluation(config: RunReportConfig, run: TrainedRun, missing: list[str]) -> EvaluationResult | None:
    """The one that was asked for, or the run's own if it is of these weights."""
    path = Path(config.evaluation or config.checkpoint / "evaluation" / "evaluation.json")
    if not config.evaluation and not path.is_file():
        return None
    found = read_evaluation(path)
    if found.facts.get("model") == run.fingerprint:
        return found
    if config.evaluation:
        raise RunError(
            f"{path} is of the model {found.facts.get('model')}, the run's is {run.fingerprint}; measure it "
            f"again: {_evaluate_command(config)}"
        )
    missing.append(f"The evaluation in {path} is of older weights of this run, and is left out.")
    return None


def _how_to_evaluate(config: RunReportConfig) -> str:
    return (
        "This was not measured. How well the codes predict, and what a probe reads off them beside its "
        "controls, is measured on videos with known actions (without them, the prediction only) by\n\n"
        f"{_evaluate_command(config)}\n\n"
        "and is on this page when it is written again."
    )


def _evaluate_command(config: RunReportConfig) -> str:
    words = ["concerto-laq", "evaluate", "--checkpoint", str(config.checkpoint)]
    for flag in ("data_dir", "features", "view", "camera"):
        if getattr(config, flag):
            words += [f"--{flag}", getattr(config, flag)]
    return shlex.join(words)
