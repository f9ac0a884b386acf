"""The labelling job: a trained run, and videos or a feature store → action tokens of every pair, once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..devices import chosen_device
from ..durable_files import folder_lock
from ..errors import ConfigError, RunError
from ..lerobot.dataset import choose_camera, open_lerobot
from ..skipped_videos import refuse_too_many_skipped, write_skipped
from ..trained_run import TrainedRun, open_trained_run
from ..work_engine import run_units
from .config import LabelConfig
from .formats import read_instructions, write_lapa, write_parquet
from .label_rows import label_rows, read_part, write_part
from .lerobot_copy import refuse_frames, refuse_output, write_lerobot
from .token_source import LoadedPart, Part, TokenSource, build_token_source

__all__ = ["LabelConfig", "LabelResult", "label"]


@dataclass(frozen=True)
class LabelResult:
    """What was written.

    Attributes:
        skipped: videos, or stretches of them, without labels, and why.
        remark: what else the user should know.
    """

    output: Path
    num_pairs: int
    skipped: tuple[tuple[str, str], ...]
    remark: str = ""


@dataclass(frozen=True)
class PartUnit:
    """A part, and the file that its rows go to."""

    part: Part
    file: Path


@dataclass(frozen=True)
class LabelJob:
    """Load a part, encode it, label it, write its rows.

    Attributes:
        run: for work in this process; elsewhere each process opens it anew.
    """

    config: LabelConfig
    source: TokenSource
    run: TrainedRun | None = None

    def load(self, unit: PartUnit) -> LoadedPart:
        """Read and decode."""
        return self.source.load(unit.part)

    def make_worker(self) -> Callable[[PartUnit, LoadedPart], None]:
        """Encode, label, write."""
        device = chosen_device(self.config.device)
        run = self.run or open_trained_run(self.config.checkpoint, device=device)
        encode = self.source.make_encoder(device)

        def work(unit: PartUnit, loaded: LoadedPart) -> None:
            rows = [
                label_rows(run.model, names, tokens.to(device), fingerprint=run.fingerprint)
                for names, tokens in encode(loaded)
            ]
            write_part(unit.file, rows, loaded.skipped)

        return work


def label(config: LabelConfig) -> LabelResult:
    """Label every pair exactly once; parts that were labelled before an interruption are not done again.

    Raises:
        LAQError: no run, no data, missing weights, tokens of another encoder, too many unreadable videos, or
            an output that cannot be written.
    """
    _refuse_sources(config)
    read_instructions(config.instructions)  # so that a mistake is found before the work
    is_here = config.work.is_in_this_process
    run = open_trained_run(config.checkpoint, device=chosen_device(config.device) if is_here else "cpu")
    camera = _camera_of_copy(config, run)
    source = build_token_source(config, run)
    refuse_too_many_skipped(source.skipped, num_videos=source.num_videos, max_share=config.max_skipped_share)
    parts = source.parts(config.part_pairs)
    waiting_room = config.output.with_name(config.output.name + ".parts")
    with ExitStack() as locks:
        try:
            locks.enter_context(folder_lock(waiting_room))
            folder = waiting_room / _digest_of_work(config, run, parts)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot write {config.output} ({error.strerror}); choose another --output"
            ) from error
        units = [PartUnit(part, folder / f"{number:06d}.parquet") for number, part in enumerate(parts)]
        _label_parts(units, LabelJob(config, source, run if is_here else None))
        num_pairs, remark = _write(config, [unit.file for unit in units], camera, run)
        failed = (entry for unit in units for entry in read_part(unit.file)[1])
        skipped = tuple(dict.fromkeys((*source.skipped, *failed)))
        shutil.rmtree(folder)
    _remove_if_empty(waiting_room)
    result = LabelResult(config.output, num_pairs, skipped, remark)
    _say(result, config)
    refuse_too_many_skipped(skipped, num_videos=source.num_videos, max_share=config.max_skipped_share)
    return result


def _refuse_sources(config: LabelConfig) -> None:
    """Before any work: what is labelled must be clear, and a copy of a dataset must find its place free."""
    if config.format != "lerobot":
        if bool(config.data_dir) == bool(config.features):
            raise ConfigError("give --data_dir DIR (a folder of videos) or --features DIR (a feature store)")
        return
    if not config.data_dir:
        raise ConfigError("--format lerobot copies a dataset: give --data_dir DIR, a LeRobot dataset")
    dataset = open_lerobot(config.data_dir)
    refuse_output(config.output, dataset.root)
    refuse_frames(dataset)


def _camera_of_copy(config: LabelConfig, run: TrainedRun) -> str:
    """Whose labels a copy of a dataset gets; empty where none is made."""
    if config.format != "lerobot":
        return ""
    return choose_camera(open_lerobot(config.data_dir), config.camera or run.data.camera)


def _write(config: LabelConfig, parts: list[Path], camera: str, run: TrainedRun) -> tuple[int, str]:
    """The parts in the format that was asked for; gives the number of pairs, and a remark."""
    if config.format == "lerobot":
        dataset, frame_offset = open_lerobot(config.data_dir), run.data.frame_offset
        copied = write_lerobot(config.output, dataset, parts, camera=camera, frame_offset=frame_offset)
        return copied.num_labelled, copied.in_words()
    tables = (read_part(part)[0] for part in parts)
    if config.format == "lapa":
        return write_lapa(config.output, tables, instructions=read_instructions(config.instructions)), ""
    return write_parquet(config.output, tables), ""


def _label_parts(units: list[PartUnit], job: LabelJob) -> None:
    """Write the parts that are missing."""
    missing = [unit for unit in units if not unit.file.exists()]
    total = sum(unit.part.num_pairs for unit in missing)
    with tqdm(total=total, desc="label", unit="pair", disable=not missing) as progress:
        for place in run_units(job, missing, job.config.work):
            progress.update(missing[place].part.num_pairs)


def _digest_of_work(config: LabelConfig, run: TrainedRun, parts: list[Part]) -> str:
    """Parts of another model or of other data are never mixed in; datasets may call their videos alike."""
    work = [run.fingerprint, config.data_dir, config.features, *(part.content for part in parts)]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:16]


def _remove_if_empty(waiting_room: Path) -> None:
    """Parts of an interrupted job with other settings stay, for its own next run."""
    if all(path.name == ".lock" for path in waiting_room.iterdir()):
        shutil.rmtree(waiting_room)


def _say(result: LabelResult, config: LabelConfig) -> None:
    listing = config.output.with_name(config.output.name + ".skipped.jsonl")
    write_skipped(listing, result.skipped)
    told = f"; {len(result.skipped)} videos skipped, listed in {listing.name}" if result.skipped else ""
    print(f"{result.num_pairs} pairs → {result.output}{told}")
    if result.remark:
        print(result.remark)
