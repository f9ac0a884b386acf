"""The precompute job: a folder of videos through the frozen networks, once, into a feature store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .concerto_wrapper import ConcertoEncoder, EncoderConfig, build_encoder
from .durable_files import folder_lock
from .encoder_fingerprint import token_settings, weights_digests
from .errors import ConfigError
from .feature_store import FeatureStoreWriter, Part, TokenShape, open_store_writer
from .pair_encoding import encode_pairs
from .presets import Preset
from .skipped_videos import refuse_too_many_skipped, write_skipped
from .span_decoding import DecodedSpan, count_pairs, decode_spans
from .structures import GEOMETRY_CHANNELS, FramePair
from .video.index import build_index
from .webm_dataset import VideoDataConfig

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
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoder = build_encoder(config.encoder, device=device)
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
        missing = writer.missing()
        num_pairs = sum(span.num_pairs for _, spans in missing for span in spans)
        with tqdm(total=num_pairs, desc="encode", unit="pair", disable=not missing) as progress:
            for number, spans in missing:
                decoded = decode_spans(index, spans, config.data, every_n=config.every_n)
                encode_shard(decoded, encoder, writer, number, batch_size=config.batch_size, device=device)
                progress.update(sum(span.num_pairs for span in spans))
        result = _summarise(config, writer, unreadable)
    refuse_too_many_skipped(result.skipped, num_videos=num_videos, max_share=config.max_skipped_share)
    return result


def store_settings(config: PrecomputeConfig, *, feature_channels: int) -> dict[str, Any]:
    """What the store says of its tokens."""
    return {
        **token_settings(config.encoder, config.data),
        "weights": weights_digests(config.encoder),
        "feature_channels": feature_channels,
        "every_n": config.every_n,
    }


def encode_shard(
    decoded: Iterable[DecodedSpan],
    encoder: ConcertoEncoder,
    writer: FeatureStoreWriter,
    number: int,
    *,
    batch_size: int,
    device: torch.device | str,
) -> None:
    """Encode the pairs of one shard and write it; a span that could not be decoded is noted there."""
    with writer.shard(number) as shard:

        def pairs() -> Iterator[FramePair]:
            for span in decoded:
                if span.reason:
                    shard.skip(span.span.video, span.reason)
                yield from span.pairs

        for names, tokens in encode_pairs(pairs(), encoder, batch_size=batch_size, device=device):
            shard.add(names, tokens.to("cpu"))


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
