"""A small store whose pairs follow from an action: learnable in a few steps, written in milliseconds."""

import zlib
from pathlib import Path

import torch

from laq_model.feature_store import PairName, TokenShape, open_store_writer
from laq_model.structures import (
    DISPLACEMENT,
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPANCY,
    OCCUPIED,
    SEEN_THROUGH,
    UNKNOWN,
    PairTokens,
)

FEATURE_CHANNELS = 6
SETTINGS = {"feature_channels": FEATURE_CHANNELS, "frame_size": 112}


def action_tokens(num_pairs: int, *, num_tokens: int = 12, seed: int = 0) -> PairTokens:
    """Cells of a line; an action of three kinds moves what is in them by one place, or not at all.

    The last place is padding, and the first is hidden in the future frame.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = FEATURE_CHANNELS + GEOMETRY_CHANNELS
    current = torch.randn(num_pairs, num_tokens, channels, generator=generator)
    moves = torch.randint(-1, 2, (num_pairs,), generator=generator)
    future = torch.stack([row.roll(int(move), 0) for row, move in zip(current, moves, strict=True)])
    state = torch.where(torch.rand(num_pairs, 2, num_tokens, generator=generator) < 0.8, OCCUPIED, FREE)
    state[:, 1, 0] = UNKNOWN
    is_valid = torch.ones(num_pairs, num_tokens, dtype=torch.bool)
    is_valid[:, -1] = False
    state[:, :, -1] = UNKNOWN
    position = torch.zeros(num_pairs, num_tokens, 3)
    position[..., 0] = torch.linspace(-0.9, 0.9, num_tokens)
    position[:, -1] = 0
    feat = torch.stack([current, future], dim=1) * (state == OCCUPIED)[..., None]
    feat[..., OCCUPANCY] = feat[..., OCCUPANCY].abs().clamp(max=1)
    feat[..., SEEN_THROUGH] = ((state == OCCUPIED) & (state.flip(1) == FREE)).float()
    way = torch.zeros(num_pairs, 1, 1, 3)
    way[..., 0] = 0.1 * moves[:, None, None]
    feat[..., DISPLACEMENT] = feat[..., SEEN_THROUGH, None] * way
    return PairTokens(feat=feat.half().float(), state=state, position=position, is_valid=is_valid)


def pair_names(video: str, count: int) -> list[PairName]:
    return [PairName(video, i, i + 5, i / 12, (i + 5) / 12) for i in range(count)]


def tokens_of(video: str, count: int, **options) -> PairTokens:
    return action_tokens(count, seed=zlib.crc32(video.encode()), **options)


def write_store(
    folder: Path,
    *,
    num_videos: int = 6,
    pairs_each: int = 8,
    shard_pairs: int = 16,
    num_tokens: int = 12,
    settings: dict | None = None,
) -> Path:
    """Videos v00.webm, v01.webm, ... of equal length."""
    videos = [(f"v{number:02d}.webm", pairs_each) for number in range(num_videos)]
    shape = TokenShape(num_tokens=num_tokens, channels=FEATURE_CHANNELS + GEOMETRY_CHANNELS)
    with open_store_writer(
        folder, settings={**SETTINGS, **(settings or {})}, shape=shape, videos=videos, shard_pairs=shard_pairs
    ) as writer:
        for number, spans in writer.missing():
            with writer.shard(number) as shard:
                for span in spans:
                    tokens = tokens_of(span.video, span.num_pairs, num_tokens=num_tokens)
                    shard.add(pair_names(span.video, span.num_pairs), tokens)
    return folder
