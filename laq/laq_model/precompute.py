"""The precompute job: a folder of videos through the frozen networks, once, into a feature store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .concerto_wrapper import ConcertoEncoder, build_encoder
from .devices import chosen_device
from .durable_files import folder_lock
from .encoder_config import EncoderConfig
from .encoder_fingerprint import token_settings, weights_digests
from .errors import ConfigError
from .feature_store import FeatureStoreWriter, Part, Span, TokenShape, open_store_writer
from .pair_encoding import encode_pairs
from .presets import Preset
from .skipped_videos import refuse_too_many_skipped, write_skipped
from .span_decoding import DecodedSpan, count_pairs, decode_spans
from .structures import GEOMETRY_CHANNELS
from .video.index import VideoEntry, VideoIndex, build_index
from .webm_dataset import VideoDataConfig
from .work_engine import run_units
from .work_units import EngineConfig

SKIPPED_FILE = "skipped.jsonl"


@dataclass(frozen=True)
class PrecomputeConfig:
    """Encode every n-th pair of every video once; training then reads the store with --features."""

    preset: Preset = "published"
    """Defaults of all flags: `published` weights, embedded `tiny` networks, or `lapa` sizes."""
    output_dir: Path = Path("features")
    """The store's folder; a second run fills in what is missing."""
    every_n: int = 1
    """Frames between the starts of neighbouring pairs."""
    batch_size: int = 8
    """Pairs encoded at once."""
    shard_pairs: int = 512
    """Pairs in a shard: what is lost when a process dies."""
    part: str = ""
    """k/n: do every n-th shard only, from the k-th on, so that n machines can share the work."""
    max_skipped_share: float = 0.1
    """Share of the videos that may turn out to be unreadable before the job counts as failed."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""
    work: EngineConfig = field(default_factory=EngineConfig)
    data: VideoDataConfig = field(default_factory=VideoDataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        for name in ("every_n", "batch_size", "shard_pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.max_skipped_share <= 1:
            raise ConfigError(f"max_skipped_share must be from 0 to 1, got {self.max_skipped_share}")
        Part.parse(self.part)


@dataclass(frozen=True)
class PrecomputeResult:
    """What the store holds now.

    Attributes:
        num_missing: shards that other parts still have to write.
        skipped: videos without pairs, and why.
    """

    output_dir: Path
    num_pairs: int
    num_missing: int
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShardUnit:
    """One shard to write: what is in it, and the videos that it needs."""

    number: int
    spans: Sequence[Span]
    entries: tuple[VideoEntry, ...]


@dataclass(frozen=True)
class ShardJob:
    """Decode the pairs of a shard, encode them, write it.

    Attributes:
        index: of the folder; the videos come with each unit.
        writer: of the store; its plan is not needed here.
        encoder: for work in this process; elsewhere each process builds its own.
    """

    config: PrecomputeConfig
    index: VideoIndex
    writer: FeatureStoreWriter
    encoder: ConcertoEncoder | None = None

    def load(self, unit: ShardUnit) -> list[DecodedSpan]:
        """Decode."""
        index = replace(self.index, videos=unit.entries)
        return list(decode_spans(index, unit.spans, self.config.data, every_n=self.config.every_n))

    def make_worker(self) -> Callable[[ShardUnit, list[DecodedSpan]], None]:
        """Encode and write; a span that could not be decoded is noted in the shard."""
        device = chosen_device(self.config.device)
        encoder = self.encoder or build_encoder(self.config.encoder, device=device)

        def work(unit: ShardUnit, decoded: list[DecodedSpan]) -> None:
            pairs = (pair for span in decoded for pair in span.pairs)
            with self.writer.shard(unit.number) as shard:
                for span in decoded:
                    if span.reason:
                        shard.skip(span.span.video, span.reason)
                for names, tokens in encode_pairs(
                    pairs, encoder, batch_size=self.config.batch_size, device=device
                ):
                    shard.add(names, tokens.to("cpu"))

        return work


def precompute(config: PrecomputeConfig) -> PrecomputeResult:
    """Write what the store lacks.

    Raises:
        LAQError: bad settings, data or weights; a store of other settings; or too many unreadable videos.
    """
    if not config.data.data_dir:
        raise ConfigError("give --data_dir DIR, a folder of videos")
    index = build_index(config.data)
    print(index.summary())
    unreadable = tuple((video.name, video.reason) for video in index.skipped)
    num_videos = len(index.videos) + len(unreadable)
    refuse_too_many_skipped(unreadable, num_videos=num_videos, max_share=config.max_skipped_share)
    is_here = config.work.is_in_this_process
    # Elsewhere, too, wrong weights should be found before the work is spread.
    encoder = build_encoder(config.encoder, device=chosen_device(config.device) if is_here else "cpu")
    with open_store_writer(
        config.output_dir,
        settings=store_settings(config, feature_channels=encoder.feature_channels),
        shape=TokenShape(
            # One place is all that global pooling gives; the rest of its tokens is padding.
            num_tokens=1 if config.encoder.pooling == "global" else config.encoder.max_tokens,
            channels=encoder.feature_channels + GEOMETRY_CHANNELS,
        ),
        videos=[
            (entry.name, count_pairs(entry, config.data, every_n=config.every_n)) for entry in index.videos
        ],
        shard_pairs=config.shard_pairs,
        part=Part.parse(config.part),
    ) as writer:
        job = ShardJob(
            config,
            replace(index, videos=(), skipped=()),
            replace(writer, plan=()),
            encoder if is_here else None,
        )
        _write_shards(job, _units(writer, index), config)
        result = _summarise(config, writer, unreadable)
    refuse_too_many_skipped(result.skipped, num_videos=num_videos, max_share=config.max_skipped_share)
    return result


def _units(writer: FeatureStoreWriter, index: VideoIndex) -> list[ShardUnit]:
    entries = {entry.name: entry for entry in index.videos}
    return [
        ShardUnit(number, spans, tuple(entries[span.video] for span in spans if span.video in entries))
        for number, spans in writer.missing()
    ]


def _write_shards(job: ShardJob, units: list[ShardUnit], config: PrecomputeConfig) -> None:
    sizes = [sum(span.num_pairs for span in unit.spans) for unit in units]
    with tqdm(total=sum(sizes), desc="encode", unit="pair", disable=not units) as progress:
        for place in run_units(job, units, config.work):
            progress.update(sizes[place])


def store_settings(config: PrecomputeConfig, *, feature_channels: int) -> dict[str, Any]:
    """What the store says of its tokens."""
    return {
        **token_settings(config.encoder, config.data),
        "weights": weights_digests(config.encoder),
        "feature_channels": feature_channels,
        "every_n": config.every_n,
    }


def _summarise(
    config: PrecomputeConfig, writer: FeatureStoreWriter, unreadable: tuple[tuple[str, str], ...]
) -> PrecomputeResult:
    """Say what the store holds, and list every video that it lacks in skipped.jsonl."""
    records = writer.records()
    skipped = tuple(dict.fromkeys((*unreadable, *(entry for record in records for entry in record.skipped))))
    with folder_lock(config.output_dir, name=".lock-plan", is_patient=True):  # other parts end now, too
        write_skipped(config.output_dir / SKIPPED_FILE, skipped)
    result = PrecomputeResult(
        output_dir=config.output_dir,
        num_pairs=sum(record.num_pairs for record in records),
        num_missing=len(writer.plan) - len(records),
        skipped=skipped,
    )
    print(
        f"{config.output_dir}: {result.num_pairs} pairs in {len(records)} of {len(writer.plan)} shards; "
        f"{len(skipped)} videos skipped" + (f", listed in {SKIPPED_FILE}" if skipped else "")
    )
    return result
