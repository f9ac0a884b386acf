"""The training job: pairs → tokens → loss → update, with evaluation, checkpoints and exact resume.

Hugging Face Accelerate places the model on one CPU, one GPU or many processes; each process takes its own
rows of every batch. On CPU the bits of a resumed run are those of an unbroken one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from tqdm import tqdm

from ..checkpoint import RUN_FILE, RunFolder, create_run, open_run
from ..concerto_laq import ConcertoLAQ, feature_statistics
from ..durable_files import folder_lock
from ..errors import ConfigError, DatasetError, RunError
from .build_source import build_source, refuse_other_data
from .config import TrainConfig, as_json, differences
from .health_watch import HealthWatch
from .held_out import evaluate_held_out
from .interruption import Interruption, resume_command
from .optimizer import build_optimizer
from .pair_source import PairSource, picks_of_step
from .processes import build_accelerator
from .run_log import RunLog
from .step import rows_of_process, take_step


@dataclass(frozen=True)
class TrainResult:
    """Where a run ended.

    Attributes:
        held_out: the last evaluation on held-out pairs.
    """

    output_dir: Path
    num_steps: int
    held_out: dict[str, float]


@dataclass(frozen=True)
class _Run:
    """What the steps of a run need."""

    config: TrainConfig
    source: PairSource
    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    folder: RunFolder
    watch: HealthWatch
    is_part: bool

    @property
    def own_model(self) -> ConcertoLAQ:
        return self.accelerator.unwrap_model(self.model)


def train(config: TrainConfig, *, is_part: bool = False) -> TrainResult:
    """Train, or continue training, in ``config.output_dir``.

    Args:
        is_part: of a job that goes on by itself when it is started again (and so needs no ``--resume``).

    Raises:
        LAQError: bad settings, data, weights or folder; nothing that was saved before is lost.
        KeyboardInterrupt: Ctrl-C came; the run is saved.
        SystemExit: SIGTERM came; the run is saved.
    """
    if not config.features and not config.data.data_dir:
        raise ConfigError("give --data_dir DIR (a folder of videos) or --features DIR (a feature store)")
    accelerator = build_accelerator(config)
    settings = {
        **as_json(config),
        "pairs_per_step": config.optimization.batch_size * accelerator.num_processes,
    }
    with ExitStack() as folder_claim:
        if accelerator.is_main_process:
            folder_claim.enter_context(claimed_folder(config, settings))
        accelerator.wait_for_everyone()
        source, feature_channels = build_source(
            config, accelerator.device, is_talking=accelerator.is_main_process
        )
        torch.manual_seed(config.optimization.seed)
        model = ConcertoLAQ(replace(config.model, feature_channels=feature_channels))
        model.to(accelerator.device)
        optimizer = build_optimizer(model, config.optimization)
        folder = start_run(config, settings, source, accelerator)
        step, notes = folder.load_checkpoint(model, optimizer) if config.resume else (0, {})
        if accelerator.is_main_process:
            folder.start_from(step)
            if step == 0:
                measure_statistics(model, source, config)
        for buffer in model.buffers():  # the parameters follow from the seed, or from the checkpoint
            broadcast(buffer)
        model, optimizer = accelerator.prepare(model, optimizer)
        run = _Run(
            config, source, accelerator, model, optimizer, folder, HealthWatch(notes.get("health")), is_part
        )
        with RunLog(folder, accelerator, config, first_step=step) as log:
            return run_steps(run, log, first_step=step)


def run_steps(run: _Run, log: RunLog, *, first_step: int) -> TrainResult:
    """Every step from ``first_step`` to the last; evaluates and saves on the way and at the end."""
    config, logging = run.config, run.config.logging
    last = config.optimization.num_steps
    held_out: dict[str, float] = {}
    with Interruption() as interruption:
        for step, turns in enumerate(batches_from(run, first_step), start=first_step):
            done = step + 1
            is_evaluated = done == last or done % logging.eval_every == 0
            losses, must_stop = take_step(
                run.model,
                run.optimizer,
                turns,
                run.accelerator,
                config.optimization,
                step=step,
                shuffle_pairs=config.shuffle_pairs,
                is_asked_to_stop=interruption.is_asked,
                is_reported=is_evaluated or done % logging.log_every == 0,
            )
            log.step(done, losses)
            if must_stop:  # first of all: who sent the signal may not wait for an evaluation
                save(run, done)
            if is_evaluated:
                held_out = evaluate(run)
                log.evaluation(done, held_out)
                looked = run.watch.look(run.own_model, losses, held_out, progress=done / last)
                for kind, text in looked.items():
                    log.warning(done, kind, text)
            if done == last or done % logging.save_every == 0 or (must_stop and is_evaluated):
                save(run, done)
            if must_stop and done < last:
                command = resume_command(
                    run.accelerator.num_processes,
                    has_gpu=run.accelerator.device.type == "cuda",
                    flag="" if run.is_part else "--resume",
                )
                log.interrupted(done, command)
                break
        else:
            held_out = held_out or evaluate(run)  # resumed after the last step
            log.summary(held_out)
            return TrainResult(config.output_dir, last, held_out)
    interruption.end_process()
    raise AssertionError("end_process does not return")


def batches_from(run: _Run, first_step: int) -> Iterator[list[Any]]:
    """This process's tokens of each step, turn by turn; the next step is loaded while this one computes."""
    options = run.config.optimization
    accelerator = run.accelerator
    turns = rows_of_process(accelerator.process_index, options)

    def load(step: int) -> list[Any]:
        picks = picks_of_step(
            step,
            batch_size=options.batch_size * accelerator.num_processes,
            num_train=run.source.num_train,
            seed=options.seed,
        )
        return [run.source.load_train(picks[rows.first : rows.first + rows.count]) for rows in turns]

    with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
        coming = None
        for step in range(first_step, options.num_steps):
            loaded = coming.result() if coming else load(step)
            coming = thread.submit(load, step + 1) if step + 1 < options.num_steps else None
            yield [(rows, run.source.tokens(pairs)) for rows, pairs in zip(turns, loaded, strict=True)]


def evaluate(run: _Run) -> dict[str, float]:
    """Held-out metrics, the same on all processes."""
    return evaluate_held_out(
        run.own_model,
        run.source,
        run.accelerator,
        limit=run.config.logging.eval_pairs,
        batch_size=run.config.optimization.micro_batch_size or run.config.optimization.batch_size,
    )


def save(run: _Run, step: int) -> None:
    """The first process saves, the others wait."""
    if run.accelerator.is_main_process:
        run.folder.save_checkpoint(
            run.own_model,
            run.optimizer,
            step=step,
            notes={"health": run.watch.state()},
            keep=run.config.logging.keep_checkpoints,
        )
    run.accelerator.wait_for_everyone()


@contextmanager
def claimed_folder(config: TrainConfig, settings: dict[str, Any]) -> Iterator[None]:
    """Refuse another run's folder before any work is done, and keep others out of it from now on.

    Raises:
        RunError: it cannot be written, another process trains in it, or it holds another run.
    """
    if config.resume:
        differing = differences(open_run(config.output_dir).config, settings)
        if differing:
            raise RunError(
                f"{config.output_dir} was started with other settings ({'; '.join(differing)}); "
                "resume with the same flags, or start anew in another --output_dir"
            )
    elif (config.output_dir / RUN_FILE).exists():
        raise RunError(
            f"{config.output_dir} holds a run already; add --resume, or choose another --output_dir"
        )
    with ExitStack() as locks:
        try:
            locks.enter_context(folder_lock(config.output_dir))
        except OSError as error:
            raise RunError(
                f"cannot write the run folder {config.output_dir} ({error.strerror}); "
                "choose another --output_dir"
            ) from error
        yield


def start_run(
    config: TrainConfig, settings: dict[str, Any], source: PairSource, accelerator: Accelerator
) -> RunFolder:
    """The run folder; the first process makes it, the others wait."""
    if not config.resume and accelerator.is_main_process:
        create_run(config.output_dir, config=settings, manifest=source.manifest())
    accelerator.wait_for_everyone()
    folder = open_run(config.output_dir)
    if config.resume:
        refuse_other_data(folder, source)
    return folder


def measure_statistics(model: ConcertoLAQ, source: PairSource, config: TrainConfig) -> None:
    """Mean and spread of the target's channels, from training pairs only.

    Raises:
        DatasetError: features that are not finite, or pairs without a single occupied place.
    """
    options = config.optimization
    size = min(options.batch_size, 32)
    wanted = min(options.statistics_pairs, source.num_train)
    picks = picks_of_step(0, batch_size=wanted, num_train=source.num_train, seed=options.seed)
    starts = tqdm(range(0, wanted, size), desc="statistics", leave=False)
    batches = (source.tokens(source.load_train(picks[start : start + size])) for start in starts)
    try:
        statistics = feature_statistics(batches, is_per_channel=options.target_unit == "channel")
    except ValueError as error:
        raise DatasetError(f"the training pairs cannot be used: {error}") from error
    model.set_feature_statistics(*statistics)
