"""The demo: every job in turn, from RGB alone, on the embedded clips and networks; ends with one page.

What an interrupted demo finished is kept: the same command goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .checkpoint import RUN_FILE, open_run
from .encoder_config import EncoderConfig
from .evaluation.evaluate import EvaluateConfig, EvaluationResult, evaluate
from .labelling.label import LabelConfig, label
from .precompute import PrecomputeConfig, precompute
from .presets import with_preset
from .published_weights import embedded_file
from .report.output_file import make_output_folder
from .report.run_page import write_run_page
from .run_report.report import RunReportConfig, report_page
from .training.config import LoggingConfig, OptimizationConfig, TrainConfig
from .training.loop import train
from .video.config import VideoDataConfig
from .visualize import VisualizeConfig, visualize
from .work_units import EngineConfig

CONTROLS = {
    "random_codes": "random codes",
    "shuffled_pairs": "trained on shuffled pairs",
    "untrained_model": "untrained model",
}
PROBE = "probe.linear.ee_displacement.r2_mean"


@dataclass(frozen=True)
class DemoConfig:
    """Encode, train, evaluate with controls, label and draw: the whole pipeline, in minutes on two cores."""

    output: Path = Path("demo_output")
    """Folder for everything that the demo makes; index.html is the page to open."""
    num_steps: int = 400
    """Training steps of the model, and again of the control on shuffled pairs."""
    batch_size: int = 16
    """Pairs in a step."""
    every_n: int = 3
    """Frames between the starts of neighbouring pairs."""
    held_out_fraction: float = 0.25
    """Share of the episodes that training never sees."""
    learning_rate: float = 1e-3
    """Peak of the learning rate."""
    seed: int = 0
    """Seeds training and controls."""


def demo(config: DemoConfig) -> EvaluationResult:
    """Run every job on the demo pack, print the held-out figures beside their controls, and write the page.

    Raises:
        LAQError: the output cannot be written, or an older demo of other settings is there.
    """
    make_output_folder(config.output)
    data = replace(
        with_preset(VideoDataConfig(), "tiny"),
        data_dir=str(embedded_file("demo_pack")),
        held_out_fraction=config.held_out_fraction,
    )
    encoder = with_preset(EncoderConfig(), "tiny")
    store, run, control = (config.output / name for name in ("features", "run", "run_shuffled"))
    labels, pictures = config.output / "labels.parquet", config.output / "pictures"
    times: dict[str, float] = {}

    with _part("encode the clips, from RGB", times):
        precompute(
            PrecomputeConfig(
                preset="tiny",
                output_dir=store,
                every_n=config.every_n,
                shard_pairs=34,  # two clips: small enough for the cores to end together
                data=data,
                encoder=encoder,
                work=EngineConfig(num_encoders=os.cpu_count() or 1),
            )
        )
    training = _training(config, data, encoder, store)
    with _part("train the action model", times):
        _train_or_go_on(replace(training, output_dir=run))
    with _part("train the control on shuffled pairs", times):
        _train_or_go_on(replace(training, output_dir=control, shuffle_pairs=True))
    with _part("evaluate on held-out episodes", times):
        result = evaluate(
            EvaluateConfig(
                checkpoint=run,
                data_dir=data.data_dir,
                features=str(store),
                shuffled_run=str(control),
                every_n=config.every_n,
                probe_kinds=("linear",),
                probe_seeds=2,
                output_dir=str(run / "evaluation"),  # where model card and report look for it
                seed=config.seed,
            )
        )
    with _part("label every pair", times):
        label(LabelConfig(checkpoint=run, features=str(store), output=labels))
    with _part("draw two frames in one world", times):
        _draw_pair(run, data, pictures)
    with _part("collect what each code means", times):
        page = report_page(
            RunReportConfig(
                checkpoint=run,
                data_dir=data.data_dir,
                features=str(store),
            )
        )
    page = replace(
        page,
        title="Concerto-LAQ demo",
        footer="; ".join(f"{name} {seconds:.0f} s" for name, seconds in times.items()),
    )
    written = write_run_page(config.output / "index.html", page)
    print(summary(result.figures))
    print("\ntime of each part: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in times.items()))
    print(f"tokens of every pair: {labels}; trained run: {run}; pictures and clouds: {pictures}")
    print(f"open next: {written}")
    return result


def summary(figures: Mapping[str, float]) -> str:
    """The held-out figures on one screen, each with its controls."""

    def of(key: str) -> str:
        return f"{figures[key]:6.2f}" if key in figures else "     –"

    def columns(prefix: str) -> str:
        return "   ".join(of(f"{prefix}view.{view}.{PROBE}") for view in ("fixed", "moving"))

    lines = [
        "",
        "held-out episodes",
        f"  copy ratio with hard codes (1 is copying)    {of('copy_ratio_hard')}",
        f"  codes used, share of the codebook            {of('codes.used_fraction')}",
        "",
        "linear probe from the four tokens to the hand's motion, R²",
        "                                        camera  fixed   moving",
        f"  the trained model                            {columns('')}",
    ]
    lines += [f"    control: {words:34s}{columns(f'control.{name}.')}" for name, words in CONTROLS.items()]
    return "\n".join(lines)


def _training(config: DemoConfig, data: VideoDataConfig, encoder: EncoderConfig, store: Path) -> TrainConfig:
    default = with_preset(TrainConfig(), "tiny")
    return replace(
        default,
        features=str(store),
        data=data,
        encoder=encoder,
        optimization=OptimizationConfig(
            batch_size=config.batch_size,
            num_steps=config.num_steps,
            learning_rate=config.learning_rate,
            seed=config.seed,
        ),
        logging=LoggingConfig(eval_every=100, save_every=100),
    )


def _train_or_go_on(config: TrainConfig) -> None:
    if (config.output_dir / RUN_FILE).exists():
        config = replace(config, resume=True)
    train(config, is_part=True)


def _draw_pair(run: Path, data: VideoDataConfig, output: Path) -> None:
    """Two frames of the first clip that the run held out."""
    video = Path(data.data_dir) / min(open_run(run).record["data"]["held_out"])
    visualize(
        replace(
            with_preset(VisualizeConfig(), "tiny"),
            video=str(video),
            output=output,
            frame=20,
            second_frame=30,
        )
    )


@contextmanager
def _part(name: str, times: dict[str, float]) -> Iterator[None]:
    print(f"\n── {name}", flush=True)
    started = time.perf_counter()
    yield
    times[name] = time.perf_counter() - started
