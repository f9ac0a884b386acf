"""The precompute job: a folder of videos through the frozen networks, once, into a feature store."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from .concerto_wrapper import EncoderConfig, build_encoder
from .errors import ConfigError
from .feature_store import FeatureStore, FeatureStoreWriter
from .pair_encoding import encode_pairs, join
from .presets import Preset
from .published_weights import find_concerto_weights, find_vggt_weights
from .video.index import build_index
from .webm_dataset import VideoDataConfig, all_pairs


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
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""
    data: VideoDataConfig = field(default_factory=VideoDataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        if self.every_n < 1 or self.batch_size < 1:
            raise ConfigError("every_n and batch_size must be at least 1")


def precompute(config: PrecomputeConfig) -> FeatureStore:
    """Write what the store lacks; gives the whole store.

    Raises:
        LAQError: bad settings, data or weights; or the store was made with other settings.
    """
    if not config.data.data_dir:
        raise ConfigError("give --data_dir DIR, a folder of videos")
    index = build_index(config.data)
    print(index.summary())
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoder = build_encoder(config.encoder, device=device)
    writer = FeatureStoreWriter(
        config.output_dir,
        description={
            "feature_channels": encoder.feature_channels,
            "frame_size": config.data.frame_size,
            "frame_offset": config.data.frame_offset,
            "every_n": config.every_n,
            "encoder": encoder_fingerprint(config.encoder),
        },
    )
    for entry in tqdm(index.videos, desc="encode", unit="video"):
        if writer.has(entry.name):
            continue
        names, batches = [], []
        pairs = all_pairs(index, entry, config.data, every_n=config.every_n)
        for batch_names, tokens in encode_pairs(pairs, encoder, batch_size=config.batch_size, device=device):
            names += batch_names
            batches.append(tokens.to("cpu"))
        writer.write(entry.name, names, join(batches))
    return FeatureStore(config.output_dir)


def encoder_fingerprint(config: EncoderConfig) -> dict[str, object]:
    """Everything that decides what a token is: the settings, and a digest of each weights file."""
    described: dict[str, object] = dataclasses.asdict(config)
    if config.geometry == "vggt":
        described["vggt_weights"] = _digest(find_vggt_weights(config.vggt_model, file=config.vggt_weights))
    described["concerto_weights"] = _digest(
        find_concerto_weights(config.concerto_model, file=config.concerto_weights)
    )
    return described


def _digest(path: Path) -> str:
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
