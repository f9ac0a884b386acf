"""The pixels-only rival's training: the run's pairs, batches, steps and rates; it resumes by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..batch_rows import step_generator
from ..checkpoint import RUN_FILE, RunFolder, create_run, open_run
from ..durable_files import remove_folder
from ..errors import RunError
from ..quantizers.nsvq import hard_share_at
from ..training.config import OptimizationConfig, differences
from ..training.interruption import Interruption, resume_command
from ..training.optimizer import build_optimizer, learning_rate_at
from ..training.pair_source import picks_of_step
from ..training.step import rows_of_process
from ..video.index import VideoIndex
from .budget import Budget
from .config import PixelLAQConfig
from .frame_file import FrameFile, open_frame_file
from .patches import patch_statistics, to_patches
from .pixel_laq import PixelLAQ
from .same_pairs import RunPairs

FRAMES_FOLDER = "frames"


def train_pixels(
    folder: Path,
    config: PixelLAQConfig,
    budget: Budget,
    *,
    pairs: RunPairs,
    index: VideoIndex,
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> PixelLAQ:
    """The trained rival, in eval mode: read from ``folder`` if it is finished there, else trained to the end.

    On a CPU the bits of an interrupted training that goes on are those of an unbroken one.

    Raises:
        RunError: ``folder`` holds another rival, cannot be written, or another process trains there; the loss
            is not finite.
        VideoReadError: a frame that the index promised cannot be decoded.
        KeyboardInterrupt: Ctrl-C came; the rival is saved.
        SystemExit: SIGTERM came; the rival is saved.
    """
    options = budget.optimization
    run = _claim(folder, config, budget, pairs)
    with run.lock(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = PixelLAQ(config).to(device)
        optimizer = build_optimizer(model, options)
        first_step, _ = run.load_checkpoint(model, optimizer)
        if first_step < options.num_steps:
            run.start_from(first_step)
            frames = open_frame_file(
                folder / FRAMES_FOLDER,
                index,
                pairs.videos,
                side=config.frame_size,
                num_workers=num_workers,
            )
            batches = _Batches(pairs, frames, options)
            if first_step == 0:
                model.set_patch_statistics(*patch_statistics(_statistics_patches(batches, config)))
            _run_steps(run, model, optimizer, batches, budget, first_step=first_step)
        if (folder / FRAMES_FOLDER).exists():
            remove_folder(folder / FRAMES_FOLDER)
    return model.eval()


class _Batches:
    """The frames of each step's pairs."""

    def __init__(self, pairs: RunPairs, frames: FrameFile, options: OptimizationConfig):
        self._pairs, self._frames, self.options = pairs, frames, options

    def of_step(self, step: int, *, batch_size: int) -> torch.Tensor:
        """Pairs of a step, current frame first, uint8."""
        picks = picks_of_step(step, batch_size=batch_size, num_train=len(self._pairs), seed=self.options.seed)
        starts = [self._pairs.draw(*pick) for pick in picks]
        return self._frames.pairs(starts, frame_offset=self._pairs.frame_offset)

    @property
    def num_pairs(self) -> int:
        return len(self._pairs)


def _statistics_patches(batches: _Batches, config: PixelLAQConfig) -> Iterator[torch.Tensor]:
    wanted = min(batches.options.statistics_pairs, batches.num_pairs)
    for frames in batches.of_step(0, batch_size=wanted).split(32):
        yield to_patches(frames, patch_size=config.patch_size)


def _run_steps(
    run: RunFolder,
    model: PixelLAQ,
    optimizer: torch.optim.Optimizer,
    batches: _Batches,
    budget: Budget,
    *,
    first_step: int,
) -> None:
    options, logging = budget.optimization, budget.logging
    last = options.num_steps
    model.train()
    with (
        Interruption() as interruption,
        tqdm(total=last, initial=first_step, desc="train rival: pixels", unit="step") as progress,
    ):
        for done in range(first_step + 1, last + 1):
            losses = _take_step(model, optimizer, batches, step=done - 1)
            progress.update()
            if done % logging.log_every == 0:
                progress.set_postfix(loss=f"{losses['loss']:.3f}", hard=f"{losses['hard_code_loss']:.3f}")
                run.append_metrics({"step": done, "kind": "train", **losses})
            if done == last or done % logging.save_every == 0 or interruption.is_asked:
                run.save_checkpoint(model, optimizer, step=done, notes={}, keep=logging.keep_checkpoints)
            if interruption.is_asked and done < last:
                break
        else:
            return
    print(f"stopped after step {done} of {last} of the rival pixels; saved. Go on with:")
    print(f"  {resume_command(1, has_gpu=False, flag='')}", flush=True)
    interruption.end_process()


def _take_step(
    model: PixelLAQ, optimizer: torch.optim.Optimizer, batches: _Batches, *, step: int
) -> dict[str, float]:
    """Update the weights; gives what is worth a curve."""
    options = batches.options
    device = model.patch_mean.device
    frames = batches.of_step(step, batch_size=options.batch_size)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(step, options)
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    for rows in rows_of_process(0, options):
        generator = step_generator(
            options.seed * 1_000_003 + step,
            first_row=rows.first,
            batch_size=options.batch_size,
            device=device,
        )
        out = model(
            frames[rows.first : rows.first + rows.count].to(device),
            generator=generator,
            progress=step / options.num_steps,
            hard_share=hard_share_at(step / options.num_steps, hard_from=options.hard_codes_from),
        )
        share = rows.count / options.batch_size
        (share * out.loss).backward()
        for name, value in out.scalars().items():
            sums[name] = sums.get(name, 0.0) + share * float(value.detach())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_gradient_norm)
    if not bool(torch.isfinite(norm)):
        raise RunError(
            f"the rival pixels diverged at step {step + 1}: its gradient is not finite; "
            "the last checkpoint is kept"
        )
    optimizer.step()
    return sums


def _claim(folder: Path, config: PixelLAQConfig, budget: Budget, pairs: RunPairs) -> RunFolder:
    """The rival's run folder, new or begun before with the same settings and pairs."""
    settings: dict[str, Any] = {
        "model": dataclasses.asdict(config),
        "optimization": dataclasses.asdict(budget.optimization),
        "every_n": pairs.every_n,
        "frame_offset": pairs.frame_offset,
    }
    videos = {entry.name: entry.num_frames for entry in pairs.videos}
    if not (folder / RUN_FILE).exists():
        return create_run(folder, config=settings, manifest={"videos": videos})
    run = open_run(folder)
    parts = differences(run.config, settings)
    if run.record["data"]["videos"] != videos:
        parts.append("other training videos")
    if parts:
        raise RunError(
            f"{folder} holds a rival that was trained otherwise ({'; '.join(parts)}); delete that folder, "
            "or choose another --output_dir"
        )
    return run
