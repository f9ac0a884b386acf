"""The training pairs that the flags ask for, checked against the run's own tokens and data."""

from __future__ import annotations

from typing import Any

import torch

from ..checkpoint import RunFolder
from ..concerto_wrapper import build_encoder
from ..encoder_fingerprint import refuse_other_tokens, token_settings, weights_digests
from ..errors import RunError
from ..feature_store import FeatureStore
from ..video.index import build_index
from ..webm_dataset import PairDataset
from .config import TrainConfig
from .pair_source import PairSource, StorePairs, VideoPairs


def build_source(config: TrainConfig, device: torch.device, *, is_talking: bool) -> tuple[PairSource, int]:
    """The training pairs, and how many network channels their tokens have.

    Raises:
        LAQError: no data, too few videos, missing weights, or a store of other tokens than the flags say.
    """
    if config.features:
        store = FeatureStore(config.features)
        refuse_other_store(store, config)
        source = StorePairs(store, held_out_fraction=config.data.held_out_fraction, device=device)
        return source, store.feature_channels
    index = build_index(config.data)
    encoder = build_encoder(config.encoder, device=device)
    if is_talking:
        print(index.summary())
    seed, with_sensor = config.optimization.seed, config.encoder.geometry != "vggt"
    train_set = PairDataset(index, config.data, split="train", seed=seed, with_sensor=with_sensor)
    held_out_set = PairDataset(index, config.data, split="held_out", seed=seed, with_sensor=with_sensor)
    described = {
        **token_settings(config.encoder, config.data),
        "weights": weights_digests(config.encoder),
    }
    video_pairs = VideoPairs(train_set, held_out_set, encoder, device, token_description=described)
    return video_pairs, encoder.feature_channels


def refuse_other_store(store: FeatureStore, config: TrainConfig) -> None:
    """A run's settings are used again to label videos, so they must be those of the store.

    Raises:
        RunError: they differ; the message says in what.
    """
    wanted: dict[str, Any] = token_settings(config.encoder, config.data)
    if config.encoder.vggt_weights or config.encoder.concerto_weights:
        wanted["weights"] = weights_digests(config.encoder)
    refuse_other_tokens(
        store.description,
        wanted,
        source=f"the feature store {store.folder}",
        advice="Give the flags that it was made with (--preset and what was set beside it)",
    )


def refuse_other_data(run: RunFolder, source: PairSource) -> None:
    """A resumed run must see the pairs that an unbroken one would have seen.

    Raises:
        RunError: videos, pairs or tokens differ from those that the run was started with.
    """
    found, now = run.record["data"], source.manifest()
    advice = "Resume with the same data, or start anew in another --output_dir"
    refuse_other_tokens(
        {"tokens": found["tokens"]}, {"tokens": now["tokens"]}, source=f"the run {run.path}", advice=advice
    )
    for side in ("videos", "held_out"):
        names = sorted(name for name, _ in set(found[side].items()) ^ set(now[side].items()))
        if names:
            raise RunError(
                f"the data of {run.path} changed: {len(names)} videos of {side} differ "
                f"({', '.join(names[:3])}, ...). {advice}"
            )
