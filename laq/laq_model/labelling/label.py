"""The labelling job: a trained run and a folder of videos → action tokens of every pair."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..concerto_laq import ConcertoLAQ
from ..concerto_wrapper import ConcertoEncoder, build_encoder
from ..errors import ConfigError
from ..pair_encoding import encode_pairs
from ..trained_run import open_trained_run
from ..video.index import VideoEntry, VideoIndex, build_index
from ..webm_dataset import VideoDataConfig, all_pairs
from .export import SCHEMA, label_table, merge_parts, write_part


@dataclass(frozen=True)
class LabelConfig:
    """Write the action tokens of every pair of a folder of videos to one Parquet file."""

    checkpoint: Path = Path("runs/concerto_laq")
    """The run folder of a training run; its encoder and data settings are used."""
    data_dir: str = ""
    """The folder of videos to label."""
    output: Path = Path("labels.parquet")
    """The Parquet file to write; a second run goes on where the first was cut."""
    every_n: int = 1
    """Frames between the starts of neighbouring pairs."""
    max_videos: int = 0
    """Label the first N videos only; 0 means all."""
    batch_size: int = 8
    """Pairs encoded at once."""
    vggt_weights: str = ""
    """A local VGGT weights file, if the run's own is elsewhere on this machine."""
    concerto_weights: str = ""
    """A local Concerto weights file, if the run's own is elsewhere on this machine."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""

    def __post_init__(self) -> None:
        if self.every_n < 1 or self.batch_size < 1:
            raise ConfigError("every_n and batch_size must be at least 1")


@dataclass(frozen=True)
class LabelResult:
    """What was written."""

    output: Path
    num_videos: int
    num_pairs: int


def label(config: LabelConfig) -> LabelResult:
    """Label every pair exactly once; videos that were labelled before an interruption are not encoded again.

    Raises:
        LAQError: no run, no videos, missing weights, or an output that cannot be written.
    """
    if not config.data_dir:
        raise ConfigError("give --data_dir DIR, the folder of videos to label")
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    run = open_trained_run(config.checkpoint, device=device)
    data = replace(run.data, data_dir=config.data_dir, max_videos=config.max_videos)
    index = build_index(data)
    print(index.summary())
    encoder = build_encoder(
        replace(
            run.encoder,
            vggt_weights=config.vggt_weights or run.encoder.vggt_weights,
            concerto_weights=config.concerto_weights or run.encoder.concerto_weights,
        ),
        device=device,
    )
    # The parts belong to one model and one spacing: another model's leftovers are never mixed in.
    parts = config.output.with_name(f"{config.output.name}.{run.fingerprint}.every{config.every_n}.parts")
    written = []
    for entry in tqdm(index.videos, desc="label", unit="video"):
        part = parts / f"{_part_name(entry)}.parquet"
        written.append(part)
        if not part.exists():
            write_part(
                _label_video(entry, index, data, run.model, encoder, run.fingerprint, config, device), part
            )
    num_pairs = merge_parts(written, config.output)
    shutil.rmtree(parts)
    print(f"{num_pairs} pairs of {len(index.videos)} videos → {config.output}")
    return LabelResult(config.output, len(index.videos), num_pairs)


def _label_video(
    entry: VideoEntry,
    index: VideoIndex,
    data: VideoDataConfig,
    model: ConcertoLAQ,
    encoder: ConcertoEncoder,
    fingerprint: str,
    config: LabelConfig,
    device: torch.device,
):
    import pyarrow as pa

    tables = []
    pairs = all_pairs(index, entry, data, every_n=config.every_n)
    for names, tokens in encode_pairs(pairs, encoder, batch_size=config.batch_size, device=device):
        action = model.encode(tokens)
        tables.append(
            label_table(names, action, model.prediction_error(tokens, action.codes), model=fingerprint)
        )
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()


def _part_name(entry: VideoEntry) -> str:
    # The video's name and size: a file of the same name but other content is labelled again.
    return hashlib.sha256(f"{entry.name}:{entry.num_frames}".encode()).hexdigest()[:24]
