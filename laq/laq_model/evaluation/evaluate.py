"""The evaluation job: a trained run and videos with known actions → one result, beside its controls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ..checkpoint import RunFolder, find_run, open_run
from ..devices import chosen_device
from ..encoder_fingerprint import refuse_other_tokens
from ..errors import ConfigError, DatasetError, RunError
from ..feature_store import FeatureStore, differences
from ..known_actions.actions import ActionFrame, episode_and_view, natural_frame, true_actions
from ..known_actions.lerobot_actions import ACTION, STATE
from ..lerobot.dataset import is_lerobot
from ..report.evaluation_result import EvaluationResult
from ..report.output_file import make_output_folder, write_file
from ..report.run_page import RunPage, write_run_page
from ..rivals import RIVALS
from ..token_batches import Batches, stored_batches
from ..trained_run import TrainedRun, open_trained_run
from ..video.index import VideoIndex, build_index
from ..webm_dataset import VideoDataConfig
from .coded_pairs import Coder, RandomCoder, code_pairs, untrained_coder
from .config import EvaluateConfig
from .page import evaluation_page
from .probing import split_episodes
from .rival_codes import EvaluatedVideos
from .rivals import train_rivals
from .run_batches import ADVICE, batches_of_run
from .small_frames import small_frames
from .study import TRAINED, Study

__all__ = ["EvaluateConfig", "EvaluationResult", "evaluate"]


def evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Measure the run, write evaluation.json, .md and .html, and give the figures.

    Raises:
        LAQError: no run, no data, nothing held out, missing weights, tokens of another encoder, or a folder
            that cannot be written.
    """
    output = Path(config.output_dir) if config.output_dir else config.checkpoint / "evaluation"
    device = chosen_device(config.device)
    run = open_trained_run(config.checkpoint, device=device)
    folder = find_run(config.checkpoint)
    seen = frozenset() if config.is_new_data else _trained_on(config.checkpoint, folder)
    notes: list[str] = []
    coders = {TRAINED: Coder(run.model), **_controls(config, run, device, notes)}
    make_output_folder(output)
    data_dir = config.data_dir or run.data.data_dir
    data = replace(
        run.data,
        data_dir=data_dir,
        view=config.view,
        camera=config.camera or run.data.camera,
        max_videos=config.max_videos,
    )
    index = _index(data, config, notes)
    rivals = train_rivals(config, run, folder, output, device)
    if not rivals:
        notes.append(f"no rivals; --rivals {' '.join(RIVALS)} trains them on the run's pairs with its budget")
    names, coded = code_pairs(_batches(config, run, data, index, device), coders, device=device)
    if index is not None:
        videos = EvaluatedVideos(names, index, data)
        coded |= {name: rival.code(videos, config) for name, rival in rivals.items()}
    frame = _frame(config, run)
    truth = true_actions(names, data_dir, frame=frame)
    if not truth.targets:
        notes.append(f"the true actions are not known, so there are no probes: {_missing_truth(data_dir)}")
    study = Study(
        model=run.model,
        names=names,
        coded=coded,
        truth=truth,
        seen=seen,
        splits=split_episodes(truth.episode, seen, seeds=config.probe_seeds, seed=config.seed),
        probe_kinds=config.probe_kinds,
        small_frames=small_frames(names, index, data, every_n=config.every_n) if index else None,
    )
    if not bool(study.is_held_out.any()):
        raise DatasetError(
            "every episode of these videos was trained on; give others with --data_dir, "
            "or --is_new_data if they only have the same names"
        )
    figures = study.figures()
    facts = {
        "run": str(config.checkpoint),
        "model": run.fingerprint,
        "data": data_dir or config.features,
        "frame": frame,
        "num_pairs": len(names),
        "num_held_out_pairs": int(study.is_held_out.sum()),
        "num_episodes": len(set(truth.episode)),
        "num_held_out_episodes": len(set(truth.episode) - seen),
    }
    result = EvaluationResult(figures, facts, [*notes, *study.warnings(figures)])
    page = evaluation_page(study, result, run, folder=folder, index=index, frame=frame)
    _write(output, result, page)
    return result


def _controls(
    config: EvaluateConfig, run: TrainedRun, device: torch.device, notes: list[str]
) -> dict[str, Coder]:
    controls = {
        "random_codes": RandomCoder(run.model, seed=config.seed),
        "untrained_model": untrained_coder(run.model, seed=config.seed),
    }
    if not config.shuffled_run:
        notes.append(
            "no control trained on shuffled pairs; train one with --shuffle_pairs, give --shuffled_run"
        )
        return controls
    shuffled = open_trained_run(config.shuffled_run, device=device)
    own, other = open_run(config.checkpoint).config, open_run(config.shuffled_run).config
    if not other.get("shuffle_pairs"):
        raise RunError(f"{config.shuffled_run} was not trained with --shuffle_pairs; it is no control")
    refuse_other_tokens(
        shuffled.tokens,
        run.tokens,
        source=str(config.shuffled_run),
        advice="Train the control on the same data",
    )
    parts = [
        part
        for section in ("model", "optimization")
        for part in differences(other.get(section, {}), own.get(section, {}), prefix=f"{section}.")
    ]
    if parts:
        notes.append(f"the shuffled control was trained otherwise: {'; '.join(parts)}")
    return {"shuffled_pairs": Coder(shuffled.model), **controls}


def _trained_on(checkpoint: Path, folder: RunFolder | None) -> frozenset[str]:
    """The episodes that the run was trained on, by the names in its record.

    Raises:
        RunError: a published model, which has no such record.
    """
    if folder is None:
        raise RunError(
            f"{checkpoint} is a published model and does not say which videos it was trained on; give "
            "--data_dir with videos that it was not trained on, and --is_new_data"
        )
    return frozenset(episode_and_view(video)[0] for video in folder.trained_videos)


def _missing_truth(data_dir: str) -> str:
    if data_dir and is_lerobot(data_dir):
        return f"{data_dir} has neither of the features {ACTION} and {STATE}"
    return "no recorded labels and no actions.parquet (docs/data-formats.md)"


def _frame(config: EvaluateConfig, run: TrainedRun) -> ActionFrame:
    return natural_frame(run.encoder.geometry) if config.frame == "auto" else config.frame


def _index(data: VideoDataConfig, config: EvaluateConfig, notes: list[str]) -> VideoIndex | None:
    """The videos; a store needs none, but the controls that look at pictures do."""
    try:
        index = build_index(data)
    except (ConfigError, DatasetError) as error:
        if not config.features or config.rivals:
            raise
        notes.append(f"no controls that look at pictures: {error}")
        return None
    print(index.summary())
    return index


def _batches(
    config: EvaluateConfig,
    run: TrainedRun,
    data: VideoDataConfig,
    index: VideoIndex | None,
    device: torch.device,
) -> Batches:
    if config.features or index is None:
        store = FeatureStore(config.features)
        run.refuse_other_store(store, advice=ADVICE)
        return stored_batches(
            store,
            is_wanted=lambda video: not config.view or episode_and_view(video)[1] == config.view,
            every_n=config.every_n,
            max_videos=config.max_videos,
            batch_size=config.batch_size,
            task="evaluate",
        )
    return batches_of_run(config, run, index, data, device)


def _write(output: Path, result: EvaluationResult, page: RunPage) -> None:
    write_file(output / "evaluation.json", result.json())
    write_file(output / "evaluation.md", result.markdown())
    print(result.markdown())
    print(f"evaluation → {write_run_page(output / 'evaluation.html', page)}")
