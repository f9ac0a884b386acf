"""A small world of cells in which the motion is known, and a model of its size."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig, feature_statistics
from laq_model.structures import (
    DISPLACEMENT,
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPANCY,
    OCCUPIED,
    SEEN_THROUGH,
    PairTokens,
)

FEATURE_CHANNELS = 4
CHANNELS = FEATURE_CHANNELS + GEOMETRY_CHANNELS
GRID = 6  # cells along x and y; one layer of floor and one of air
SMALL = ConcertoLAQConfig(
    feature_channels=FEATURE_CHANNELS,
    dim=32,
    codebook_size=16,
    spatial_depth=1,
    temporal_depth=1,
    predictor_depth=2,
    num_heads=4,
    mlp_ratio=2,
    quantizer_dim=8,
    num_changed_tokens=16,
    num_context_tokens=40,
    num_query_tokens=16,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moving_box(num_pairs: int, *, seed: int = 0) -> tuple[PairTokens, torch.Tensor]:
    """A box of 2x2 cells that moves by at most one cell in x and y over a floor; tokens and displacement."""
    generator = seeded(seed)
    texture = torch.randn(2, 2, CHANNELS, generator=seeded(77))
    floor = torch.randn(GRID, GRID, CHANNELS, generator=seeded(78))
    displacement = torch.randint(-1, 2, (num_pairs, 2), generator=generator)
    start = torch.randint(1, GRID - 2, (num_pairs, 2), generator=generator)
    feat = torch.zeros(num_pairs, 2, GRID, GRID, 2, CHANNELS)
    state = torch.full((num_pairs, 2, GRID, GRID, 2), FREE)
    feat[..., 0, :], state[..., 0] = floor, OCCUPIED
    for pair in range(num_pairs):
        for frame in (0, 1):
            x, y = (start[pair] + frame * displacement[pair]).tolist()
            feat[pair, frame, x : x + 2, y : y + 2, 1] = texture
            state[pair, frame, x : x + 2, y : y + 2, 1] = OCCUPIED
    feat[..., OCCUPANCY] = 1.0
    feat, state = feat.flatten(2, 4), state.flatten(2, 4)
    feat[..., SEEN_THROUGH] = (state.flip(1) == FREE).float()
    feat[..., DISPLACEMENT] = 0.0  # not found: the places alone tell the motion
    axis = (torch.arange(GRID) + 0.5) / GRID * 2 - 1
    place = torch.stack(torch.meshgrid(axis, axis, torch.tensor([-0.5, 0.5]), indexing="ij"), dim=-1)
    tokens = PairTokens(
        feat=feat * (state == OCCUPIED)[..., None],
        state=state,
        position=place.reshape(1, -1, 3).expand(num_pairs, -1, -1).contiguous(),
        is_valid=torch.ones(num_pairs, feat.shape[2], dtype=torch.bool),
    )
    return tokens, displacement.float()


def displaced_box(num_pairs: int) -> PairTokens:
    """The box, where the displacement of what moved was found."""
    tokens, displacement = moving_box(num_pairs)
    feat = tokens.feat.clone()
    is_moved = (feat[..., SEEN_THROUGH] > 0)[..., None]
    feat[..., DISPLACEMENT] = is_moved * F.pad(0.1 * displacement, (0, 1))[:, None, None]
    return dataclasses.replace(tokens, feat=feat)


def rows(tokens: PairTokens, index: torch.Tensor) -> PairTokens:
    return PairTokens(**{part.name: getattr(tokens, part.name)[index] for part in dataclasses.fields(tokens)})


def build(config: ConcertoLAQConfig = SMALL, *, tokens: PairTokens | None = None) -> ConcertoLAQ:
    """A model whose codebook has started on some pairs, so that its codes differ."""
    torch.manual_seed(0)
    tokens = moving_box(32, seed=5)[0] if tokens is None else tokens
    model = ConcertoLAQ(config)
    model.set_feature_statistics(*feature_statistics([tokens]))
    model(tokens, generator=seeded(0))
    return model


def fit(model: ConcertoLAQ, tokens: PairTokens, *, steps: int, batch_size: int, rate: float = 3e-3) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95))
    generator = seeded(1)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * (1 - step / steps)
        picked = torch.randint(len(tokens.feat), (batch_size,), generator=generator)
        out = model(rows(tokens, picked), generator=generator, progress=step / steps)
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
