"""Every pair of a video, in order, as tokens: what precomputing, labelling and evaluation all walk over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import torch

from .concerto_wrapper import ConcertoEncoder
from .feature_store import PairName
from .structures import FramePair, PairTokens
from .webm_dataset import collate


def encode_pairs(
    pairs: Iterable[FramePair],
    encoder: ConcertoEncoder,
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[list[PairName], PairTokens]]:
    """Encode pairs batch by batch; a pair is a scene of its own, so batches change nothing."""
    remaining = iter(pairs)
    while batch := list(islice(remaining, batch_size)):
        collated = collate(batch)
        frames = collated.frames.to(device).permute(0, 1, 4, 2, 3).float() / 255
        yield [pair_name(pair) for pair in batch], encoder(frames, collated.sensor)


def pair_name(pair: FramePair) -> PairName:
    """The pair's place in its data set, without its pixels."""
    return PairName(
        video=pair.video,
        current_index=pair.current_index,
        future_index=pair.future_index,
        current_time_s=pair.current_time_s,
        future_time_s=pair.future_time_s,
    )


def join(batches: list[PairTokens]) -> PairTokens:
    """Batches of tokens as one."""
    return PairTokens(
        feat=torch.cat([batch.feat for batch in batches]),
        state=torch.cat([batch.state for batch in batches]),
        position=torch.cat([batch.position for batch in batches]),
        is_valid=torch.cat([batch.is_valid for batch in batches]),
    )
