"""The labelling job: a trained run, and videos or a feature store → action tokens of every pair, once."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ..durable_files import folder_lock
from ..errors import ConfigError, RunError
from ..skipped_videos import refuse_too_many_skipped, write_skipped
from ..trained_run import TrainedRun, open_trained_run
from .config import LabelConfig
from .formats import read_instructions, write_lapa, write_parquet
from .label_rows import label_rows, read_part, write_part
from .token_source import Part, TokenSource, build_token_source

__all__ = ["LabelConfig", "LabelResult", "label"]


@dataclass(frozen=True)
class LabelResult:
    """What was written.

    Attributes:
        skipped: videos, or stretches of them, without labels, and why.
    """

    output: Path
    num_pairs: int
    skipped: tuple[tuple[str, str], ...]


def label(config: LabelConfig) -> LabelResult:
    """Label every pair exactly once; parts that were labelled before an interruption are not done again.

    Raises:
        LAQError: no run, no data, missing weights, tokens of another encoder, too many unreadable videos, or
            an output that cannot be written.
    """
    if bool(config.data_dir) == bool(config.features):
        raise ConfigError("give --data_dir DIR (a folder of videos) or --features DIR (a feature store)")
    instructions = read_instructions(config.instructions)
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run = open_trained_run(config.checkpoint, device=device)
    source = build_token_source(config, run, device)
    refuse_too_many_skipped(source.skipped, num_videos=source.num_videos, max_share=config.max_skipped_share)
    parts = source.parts(config.part_pairs)
    waiting_room = config.output.with_name(config.output.name + ".parts")
    with ExitStack() as locks:
        try:
            locks.enter_context(folder_lock(waiting_room))
            folder = waiting_room / _digest_of_work(run, parts)
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot write {config.output} ({error.strerror}); choose another --output"
            ) from error
        files = [folder / f"{number:06d}.parquet" for number in range(len(parts))]
        skipped = _label_parts(list(zip(parts, files, strict=True)), source, run, device=device)
        tables = (read_part(file)[0] for file in files)
        if config.format == "lapa":
            num_pairs = write_lapa(config.output, tables, instructions=instructions)
        else:
            num_pairs = write_parquet(config.output, tables)
        shutil.rmtree(folder)
    _remove_if_empty(waiting_room)
    result = LabelResult(config.output, num_pairs, skipped)
    _say(result, config)
    refuse_too_many_skipped(skipped, num_videos=source.num_videos, max_share=config.max_skipped_share)
    return result


def _label_parts(
    parts: list[tuple[Part, Path]], source: TokenSource, run: TrainedRun, *, device: torch.device
) -> tuple[tuple[str, str], ...]:
    """Write the parts that are missing; gives all that was skipped."""
    skipped = list(source.skipped)
    with tqdm(total=sum(part.num_pairs for part, _ in parts), desc="label", unit="pair") as progress:
        for part, file in parts:
            if not file.exists():
                part_skipped: list[tuple[str, str]] = []
                rows = [
                    label_rows(run.model, names, tokens.to(device), fingerprint=run.fingerprint)
                    for names, tokens in source.read(part, part_skipped)
                ]
                write_part(file, rows, part_skipped)
            skipped += read_part(file)[1]
            progress.update(part.num_pairs)
    return tuple(dict.fromkeys(skipped))


def _digest_of_work(run: TrainedRun, parts: list[Part]) -> str:
    """Parts of another model or of other data are never mixed in."""
    work = [run.fingerprint, *(part.content for part in parts)]
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
