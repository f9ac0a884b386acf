"""Tokens of every pair of the evaluated videos, batch by batch: encoded now, or read from a feature store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tqdm import tqdm

from ..concerto_wrapper import build_encoder
from ..feature_store import FeatureStore, PairName
from ..pair_encoding import encode_pairs
from ..span_decoding import count_pairs
from ..structures import FramePair, PairTokens
from ..trained_run import TrainedRun
from ..video.index import VideoIndex
from ..webm_dataset import VideoDataConfig, all_pairs
from .actions import episode_and_view
from .config import EvaluateConfig

_ADVICE = "Evaluate with the encoder that the model was trained with"

Batches = Iterator[tuple[Sequence[PairName], PairTokens]]


def stored_batches(config: EvaluateConfig, run: TrainedRun) -> Batches:
    """Every n-th pair of the store.

    Raises:
        LAQError: no store, or one of other tokens than the model's.
    """
    store = FeatureStore(config.features)
    run.refuse_other_store(store, advice=_ADVICE)
    names = store.names
    videos = [
        number
        for number, video in enumerate(names.videos)
        if not config.view or episode_and_view(video)[1] == config.view
    ]
    chosen = set(videos[: config.max_videos] if config.max_videos else videos)
    pairs = [
        pair
        for pair, video in enumerate(names.video_number.tolist())
        if video in chosen and int(names.current_index[pair]) % config.every_n == 0
    ]
    for start in tqdm(range(0, len(pairs), config.batch_size), desc="evaluate", unit="batch"):
        batch = pairs[start : start + config.batch_size]
        yield [names[pair] for pair in batch], store.read(batch)


def encoded_batches(
    config: EvaluateConfig,
    run: TrainedRun,
    index: VideoIndex,
    data: VideoDataConfig,
    device: torch.device,
) -> Batches:
    """Every n-th pair of the videos, through the run's encoder.

    Raises:
        LAQError: missing weights, or other weights than the run's; a video that breaks while it is read.
    """
    settings = run.encoder_here(
        data,
        vggt_weights=config.vggt_weights,
        concerto_weights=config.concerto_weights,
        advice=_ADVICE,
    )
    encoder = build_encoder(settings, device=device)
    total = sum(count_pairs(entry, data, every_n=config.every_n) for entry in index.videos)

    def pairs() -> Iterator[FramePair]:
        for entry in index.videos:
            with_sensor = settings.geometry != "vggt"
            yield from all_pairs(index, entry, data, every_n=config.every_n, with_sensor=with_sensor)

    with tqdm(total=total, desc="evaluate", unit="pair") as progress:
        for names, tokens in encode_pairs(pairs(), encoder, batch_size=config.batch_size, device=device):
            yield names, tokens
            progress.update(len(names))
