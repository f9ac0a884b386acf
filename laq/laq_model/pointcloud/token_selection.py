"""Which places of a pair the action model reads: what moved, free places beside it, and a sample of the rest.

Only places that both frames see can testify to motion; what merely comes into or goes out of view is none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from ..errors import ConfigError, GeometryError
from ..structures import FREE, GEOMETRY_CHANNELS, OCCUPIED, SEEN_THROUGH, UNKNOWN, PairTokens
from .cell_hash import cell_hash
from .cell_pooling import CellTokens

_SCORE_STEPS = 1 << 20  # a score is a whole number of such steps: sums are exact, so ties are ties everywhere
_MOVED_BITS = 26  # a share of points seen through counts above any difference of geometry channels
_CLASS = 1 << 60  # above any hash
_PLACE_STEPS = 1 << 17  # resolution at which a place is hashed


def select_tokens(
    cells: CellTokens,
    *,
    state: Int[Tensor, "scenes 2 cells"],
    half_extent_m: float,
    max_tokens: int,
    changed_share: float = 0.5,
) -> PairTokens:
    """Exactly ``max_tokens`` places of each pair, padding included; the same for the same pair in any batch.

    In this order: places seen in both frames that changed, most first, up to ``changed_share`` of the
    budget (by the share of points that the other frame sees through, then by the difference of the
    geometry channels; ties by cell order); places free in both frames; places occupied in the current frame,
    spread evenly by a fixed shuffle of the cells; other valid places, likewise.

    Args:
        cells: of two views, current first.
        state: UNKNOWN, FREE or OCCUPIED for each view.
        half_extent_m: half the side of the scene's box.
        max_tokens: places to return.
        changed_share: largest share of them that is chosen for change.

    Raises:
        ConfigError: a budget or share that cannot be.
        GeometryError: the cells are not of two views.
    """
    if max_tokens < 1:
        raise ConfigError(f"max_tokens must be at least 1, got {max_tokens}")
    if not 0 <= changed_share <= 1:
        raise ConfigError(f"changed_share must be from 0 to 1, got {changed_share}")
    if cells.feat.shape[1] != 2:
        raise GeometryError(f"a pair has two views, got {cells.feat.shape[1]}")
    num_changed = int(changed_share * max_tokens)
    chosen = _priority(cells, state, half_extent_m, num_changed).argsort(dim=1, stable=True)[:, :max_tokens]
    missing = max_tokens - chosen.shape[1]
    is_valid = cells.is_valid.gather(1, chosen)
    both_views = chosen[:, None].expand(-1, 2, -1)
    feat = torch.take_along_dim(cells.feat, both_views[..., None], dim=2)
    feat = torch.where(is_valid[:, None, :, None], feat, torch.zeros_like(feat))
    position = torch.take_along_dim(cells.centre_m, chosen[..., None], dim=1) / half_extent_m
    return PairTokens(
        feat=F.pad(feat, (0, 0, 0, missing)),
        state=F.pad(torch.where(is_valid[:, None], state.gather(2, both_views), UNKNOWN), (0, missing)),
        position=F.pad(
            torch.where(is_valid[..., None], position, torch.zeros_like(position)), (0, 0, 0, missing)
        ),
        is_valid=F.pad(is_valid, (0, missing)),
    )


def _priority(
    cells: CellTokens, state: Int[Tensor, "scenes 2 cells"], half_extent_m: float, num_changed: int
) -> Int[Tensor, "scenes cells"]:
    """Smaller is chosen first."""
    score = _change_score(cells, state)
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    is_changed = (score > 0) & (rank < num_changed)
    place = (cells.centre_m.double() / half_extent_m + 2) / 4 * _PLACE_STEPS
    shuffled = cell_hash(place.round().long())
    is_current = cells.is_valid & (state[:, 0] == OCCUPIED)
    is_free = cells.is_valid & (state == FREE).all(dim=1)
    rest = torch.where(is_current, 2, torch.where(cells.is_valid, 3, 4))
    rest = torch.where(is_free, 1, rest) * _CLASS
    return torch.where(is_changed, rank, rest + shuffled)


def _change_score(cells: CellTokens, state: Int[Tensor, "scenes 2 cells"]) -> Int[Tensor, "scenes cells"]:
    """Zero where nothing changed, or a frame does not see the place."""
    current, future = cells.feat[..., -GEOMETRY_CHANNELS:].double().unbind(1)
    difference = ((future - current).abs() * _SCORE_STEPS).round().long().sum(dim=-1)
    moved = (cells.feat[..., SEEN_THROUGH].amax(dim=1).double() * _SCORE_STEPS).round().long()
    score = difference + (moved << _MOVED_BITS)
    is_seen: Bool[Tensor, "scenes cells"] = cells.is_valid & (state != UNKNOWN).all(dim=1)
    return torch.where(is_seen, score, 0)
