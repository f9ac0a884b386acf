"""The training job: pairs → tokens → loss → update, with evaluation, checkpoints and exact resume.

Hugging Face Accelerate places the model on one CPU, one GPU or many processes; each process takes its own slice of
every global batch. On one CPU the bits of a resumed run are those of an unbroken one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from ..checkpoint import RunFolder, create_run, open_run
from ..concerto_laq import ConcertoLAQ, feature_statistics
from ..concerto_wrapper import build_encoder
from ..errors import ConfigError, RunError
from ..feature_store import FeatureStore
from ..video.index import build_index
from ..webm_dataset import PairDataset
from .config import TrainConfig, as_json, differences
from .health_watch import HealthWatch
from .held_out import evaluate_held_out
from .optimizer import build_optimizer, learning_rate_at
from .pair_source import PairSource, StorePairs, VideoPairs, picks_of_step
from .run_log import RunLog


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended.

    Attributes:
        held_out: the last evaluation on held-out pairs.
    """

    output_dir: Path
    num_steps: int
    held_out: dict[str, float]


def train(config: TrainConfig) -> TrainResult:
    """Train, or continue training, in ``config.output_dir``.

    Raises:
        LAQError: bad settings, data, weights or folder; nothing that was saved before is lost.
    """
    if not config.features and not config.data.data_dir:
        raise ConfigError("give --data_dir DIR (a folder of videos) or --features DIR (a feature store)")
    refuse_taken_folder(config)
    accelerator = build_accelerator(config)
    source, feature_channels = build_source(config, accelerator.device)
    torch.manual_seed(config.optimization.seed)
    model = ConcertoLAQ(replace(config.model, feature_channels=feature_channels))
    optimizer = build_optimizer(model, config.optimization)
    run = start_run(config, source, accelerator)
    step = run.load_checkpoint(model, optimizer) if config.resume else 0
    if step == 0:
        measure_statistics(model, source, config)
    run.forget_metrics_after(step)
    model, optimizer = accelerator.prepare(model, optimizer)
    with RunLog(run, accelerator, config, first_step=step) as log:
        return run_steps(config, source, accelerator, model, optimizer, run, log, first_step=step)


def run_steps(
    config: TrainConfig,
    source: PairSource,
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    run: RunFolder,
    log: RunLog,
    *,
    first_step: int,
) -> TrainResult:
    """Every step from ``first_step`` to the last; evaluates and saves on the way and at the end."""
    last = config.optimization.num_steps
    own: ConcertoLAQ = accelerator.unwrap_model(model)
    held_out: dict[str, float] = {}
    watch = HealthWatch()
    for step in range(first_step, last):
        losses = take_step(config, source, accelerator, model, optimizer, step=step)
        log.step(step + 1, losses)
        is_last = step + 1 == last
        if is_last or (step + 1) % config.logging.eval_every == 0:
            held_out = evaluate_held_out(
                own, source, limit=config.logging.eval_pairs, batch_size=config.optimization.batch_size
            )
            log.evaluation(step + 1, held_out)
            for kind, text in watch.look(own, losses, held_out, progress=(step + 1) / last).items():
                log.warning(step + 1, kind, text)
        if is_last or (step + 1) % config.logging.save_every == 0:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                run.save_checkpoint(own, optimizer, step=step + 1, keep=config.logging.keep_checkpoints)
    if not held_out:  # resumed after the last step
        held_out = evaluate_held_out(
            own, source, limit=config.logging.eval_pairs, batch_size=config.optimization.batch_size
        )
    log.summary(held_out)
    return TrainResult(config.output_dir, last, held_out)


def take_step(
    config: TrainConfig,
    source: PairSource,
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
) -> dict[str, float]:
    """One update from this process's slice of the global batch; gives the losses for the log."""
    options = config.optimization
    rank, ranks = accelerator.process_index, accelerator.num_processes
    picks = picks_of_step(
        step, batch_size=options.batch_size * ranks, num_train=source.num_train, seed=options.seed
    )
    pairs = source.train_batch(picks[rank * options.batch_size : (rank + 1) * options.batch_size])
    generator = torch.Generator(device=accelerator.device)
    generator.manual_seed((options.seed * 1_000_003 + step) * 4096 + rank)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, options)
    model.train()
    with accelerator.autocast():
        out = model(pairs, generator=generator, progress=step / options.num_steps)
    if not math.isfinite(float(out.loss)):
        raise RunError(
            f"the loss is not finite at step {step + 1}; the last checkpoint is kept. "
            "Lower --learning_rate, or look for damaged frames among the training videos"
        )
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(out.loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), options.max_gradient_norm)
    optimizer.step()
    scalars = {name: float(value.detach()) for name, value in out.scalars().items()}
    return {**scalars, "gradient_norm": float(norm), "learning_rate": learning_rate_at(step, options)}


def build_accelerator(config: TrainConfig) -> Accelerator:
    """The device, the processes and the trackers that the flags ask for."""
    trackers = [
        name
        for name, wanted in (
            ("wandb", config.logging.use_wandb),
            ("tensorboard", config.logging.use_tensorboard),
        )
        if wanted
    ]
    precision = config.optimization.mixed_precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    try:
        return Accelerator(
            cpu=config.device == "cpu" or not torch.cuda.is_available(),
            mixed_precision=precision,
            log_with=trackers or None,
            project_dir=str(config.output_dir),
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"a tracker is not installed ({error}); pip install 'concerto-laq[wandb,tensorboard]'"
        ) from error


def build_source(config: TrainConfig, device: torch.device) -> tuple[PairSource, int]:
    """The training pairs, and how many network channels their tokens have."""
    if config.features:
        store = FeatureStore(config.features)
        source = StorePairs(store, held_out_fraction=config.data.held_out_fraction, device=device)
        return source, store.feature_channels
    index = build_index(config.data)
    print(index.summary())
    encoder = build_encoder(config.encoder, device=device)
    train_set = PairDataset(index, config.data, split="train", seed=config.optimization.seed)
    held_out_set = PairDataset(index, config.data, split="held_out", seed=config.optimization.seed)
    return VideoPairs(train_set, held_out_set, encoder, device), encoder.feature_channels


def refuse_taken_folder(config: TrainConfig) -> None:
    """Refuse another run's folder before any work is done."""
    if config.resume:
        run = open_run(config.output_dir)
        differing = differences(run.config, as_json(config))
        if differing:
            raise RunError(
                f"{config.output_dir} was started with other settings ({'; '.join(differing)}); "
                "resume with the same flags, or start anew in another --output_dir"
            )
    elif (config.output_dir / "run.json").exists():
        raise RunError(
            f"{config.output_dir} holds a run already; add --resume, or choose another --output_dir"
        )


def start_run(config: TrainConfig, source: PairSource, accelerator: Accelerator) -> RunFolder:
    """The run folder; the first process makes it, the others wait."""
    if not config.resume and accelerator.is_main_process:
        create_run(config.output_dir, config=as_json(config), manifest=source.manifest())
    accelerator.wait_for_everyone()
    return open_run(config.output_dir)


def measure_statistics(model: ConcertoLAQ, source: PairSource, config: TrainConfig) -> None:
    """Mean and spread of the target's channels, from training pairs only."""
    options = config.optimization
    size = min(options.batch_size, 32)
    wanted = min(options.statistics_pairs, source.num_train)
    picks = picks_of_step(0, batch_size=wanted, num_train=source.num_train, seed=options.seed)
    batches = (source.train_batch(picks[start : start + size]) for start in range(0, wanted, size))
    mean, std = feature_statistics(tqdm(batches, total=-(-wanted // size), desc="statistics", leave=False))
    model.set_feature_statistics(mean, std)
