"""Places of the world that two frames show: standardised, compared, and which of them are read or asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..batch_rows import uniform_rows
from ..structures import BOTH_FRAMES, GEOMETRY_CHANNELS, OCCUPIED, SEEN_THROUGH, PairTokens
from .motion import moved_mass, scene_motion, seen_by_both, stands_still

SEEN_THROUGH_SIZE = 1e4  # above any mean square of standardised channels
CHANGED_QUERY_SHARE = 0.5  # of the queried places: those that changed most; the others are drawn evenly


@dataclass(frozen=True)
class Places:
    """PairTokens made comparable.

    Attributes:
        feat: standardised; zero where nothing is.
        current: the current frame without a word about the future: no share of points seen through later,
            no displacement.
        is_seen: by both frames.
        moved: mass that appeared (above 0) or vanished (below 0).
        motion: of the scene, in units of its size.
        is_still: nothing moved (``stands_still``).
        change_size: mean square of the change of the raw geometry; what was seen through is above all else.
    """

    feat: Float[Tensor, "pairs 2 tokens channels"]
    current: Float[Tensor, "pairs tokens channels"]
    is_occupied: Bool[Tensor, "pairs 2 tokens"]
    position: Float[Tensor, "pairs tokens 3"]
    is_seen: Bool[Tensor, "pairs tokens"]
    moved: Float[Tensor, "pairs tokens"]
    motion: Float[Tensor, "pairs motion_channels"]
    is_still: Bool[Tensor, " pairs"]
    change_size: Float[Tensor, "pairs tokens"]


@dataclass(frozen=True)
class Task:
    """What the forward dynamics model reads and is asked of each pair.

    Attributes:
        context_index: places occupied in the current frame.
        is_context: False where a pair has fewer of them.
        query_index: places whose change is asked for.
        is_query: False where a pair sees fewer places twice.
    """

    context_index: Int[Tensor, "pairs context"]
    is_context: Bool[Tensor, "pairs context"]
    query_index: Int[Tensor, "pairs queries"]
    is_query: Bool[Tensor, "pairs queries"]


def compare_places(
    pair: PairTokens,
    mean: Float[Tensor, " channels"],
    std: Float[Tensor, " channels"],
    motion_size: Float[Tensor, " motion_channels"],
) -> Places:
    """Standardise the tokens by a training set's statistics and find what changed.

    Raises:
        ValueError: features that are not finite, or not of these channels.
    """
    if pair.feat.shape[-1] != len(mean):
        raise ValueError(
            f"this model reads tokens of {len(mean) - GEOMETRY_CHANNELS} network channels and "
            f"{GEOMETRY_CHANNELS} of geometry, got {pair.feat.shape[-1]} channels in all; "
            "use the encoder that it was trained with"
        )
    refuse_non_finite(pair)
    is_occupied = (pair.state == OCCUPIED) & pair.is_valid[:, None]
    feat = (pair.feat.float() - mean) / std * is_occupied[..., None]
    geometry = feat[..., -GEOMETRY_CHANNELS:]
    mass, motion = moved_mass(pair), scene_motion(pair)
    current = feat[:, 0].clone()
    current[..., BOTH_FRAMES] = 0.0
    return Places(
        feat=feat,
        current=current,
        is_occupied=is_occupied,
        position=pair.position.float(),
        is_seen=seen_by_both(pair),
        moved=mass[:, 1] - mass[:, 0],
        motion=motion / motion_size,
        is_still=stands_still(pair, mass=mass, motion=motion),
        change_size=(geometry[:, 1] - geometry[:, 0]).square().mean(-1)
        + SEEN_THROUGH_SIZE * feat[..., SEEN_THROUGH].amax(1),
    )


def refuse_non_finite(pair: PairTokens) -> None:
    """Raise ValueError when the tokens hold NaN or infinite values."""
    if not bool(torch.isfinite(pair.feat).all() & torch.isfinite(pair.position).all()):
        raise ValueError(
            "the tokens hold NaN or infinite values; look for damaged frames or a faulty encoder"
        )


def choose_task(
    places: Places,
    *,
    num_context: int,
    num_query: int,
    is_random: bool,
    generator: torch.Generator | None = None,
) -> Task:
    """Half of the queries are the places that changed most; the rest and the context are an even draw.

    The context is chosen without a look at the future.

    Args:
        is_random: draw anew from ``generator``; otherwise the draw follows from the places alone.
    """
    if is_random:
        shape = tuple(places.is_seen.shape)
        order = uniform_rows(shape, generator=generator, device=places.is_seen.device)
    else:
        order = place_order(places.position)
    num_changed = round(CHANGED_QUERY_SHARE * num_query)
    changed, is_changed = take_largest(places.change_size, places.is_seen, num_changed)
    is_rest = places.is_seen.scatter(1, changed, False)
    rest, is_drawn = take_largest(order, is_rest, num_query - num_changed)
    context_index, is_context = take_largest(order, places.is_occupied[:, 0], num_context)
    return Task(
        context_index=context_index,
        is_context=is_context,
        query_index=torch.cat([changed, rest], dim=1),
        is_query=torch.cat([is_changed, is_drawn], dim=1),
    )


def take_largest(
    key: Float[Tensor, "pairs tokens"], is_candidate: Bool[Tensor, "pairs tokens"], count: int
) -> tuple[Int[Tensor, "pairs taken"], Bool[Tensor, "pairs taken"]]:
    """The (at most) ``count`` candidates of largest key in each pair, largest first; of equals, the first.

    Where candidates run out, rows are filled with others, marked False.
    """
    ranked = key.masked_fill(~is_candidate, -torch.inf).argsort(dim=1, descending=True, stable=True)
    index = ranked[:, :count]
    return index, is_candidate.gather(1, index)


def gather_places(
    value: Float[Tensor, "pairs tokens channels"], index: Int[Tensor, "pairs taken"]
) -> Float[Tensor, "pairs taken channels"]:
    """Rows of ``value``, for each pair its own."""
    return value.gather(1, index[..., None].expand(-1, -1, value.shape[-1]))


def place_order(position: Float[Tensor, "pairs tokens 3"]) -> Float[Tensor, "pairs tokens"]:
    """A number in [0, 1) for each place that depends on the place alone: an even draw without randomness.

    Neither the order of the tokens nor what happens there has a say (the tokens may come sorted by change).
    """
    cell = (position.double() * 4096).round().long()
    mixed = cell[..., 0] * 73_856_093 ^ cell[..., 1] * 19_349_663 ^ cell[..., 2] * 83_492_791
    # Twice, so that neighbouring cells are spread over the whole range (Steele et al. 2014's mixer, 31 bits).
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
    return mixed.double().div(2**31).to(position.dtype)
