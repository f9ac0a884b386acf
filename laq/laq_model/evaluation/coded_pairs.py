"""One model over all pairs: its codes, the vectors around them, and how well the codes predict the future."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..action_model.places import CHANGED_QUERY_SHARE, choose_task, compare_places, gather_places
from ..concerto_laq import ConcertoLAQ
from ..feature_store import PairName
from ..metrics.prediction import masked_mean_per_pair
from ..structures import BOTH_FRAMES, GEOMETRY_CHANNELS, PairTokens

# Which part of the prediction an error is of: every place that evaluation asks for; of these the places that
# changed most, and the others; the network's channels alone, and those of the raw geometry.
GROUPS = ("all", "changed", "others", "network", "geometry")


# Pairs of each batch of which the current frame is also coded with itself.
STANDSTILL_PAIRS = 2


@dataclass(frozen=True)
class CodedPairs:
    """What one model says of each pair.

    Attributes:
        codes: hard, as a label contains them.
        embedding: the vectors that the codes stand for, joined.
        continuous: the vectors before the quantizer, joined.
        standstill_codes: the codes of some current frames with themselves.
        error: of the change predicted from the hard codes, for each of ``GROUPS``.
        copy_error: of predicting no change, at the same places.
    """

    codes: Int[Tensor, "pairs positions"]
    embedding: Float[Tensor, "pairs dim"]
    continuous: Float[Tensor, "pairs dim"]
    standstill_codes: Int[Tensor, "samples positions"]
    error: Float[Tensor, "pairs groups"]
    copy_error: Float[Tensor, "pairs groups"]

    def one_hot(self, codebook_size: int) -> Float[Tensor, "pairs positions_times_codes"]:
        """Which code each position has, as zeros and ones, joined."""
        return torch.nn.functional.one_hot(self.codes, codebook_size).flatten(1).float()


class Coder:
    """A model and its own codes."""

    def __init__(self, model: ConcertoLAQ):
        self.model = model

    def vectors(self, tokens: PairTokens) -> Float[Tensor, "pairs positions dim"]:
        """What the codes are nearest to."""
        return self.model.encode_continuous(tokens)


class RandomCoder(Coder):
    """A control: codes drawn evenly, whatever happened; decoded by the true model."""

    def __init__(self, model: ConcertoLAQ, *, seed: int):
        super().__init__(model)
        self._generator = torch.Generator().manual_seed(seed)

    def vectors(self, tokens: PairTokens) -> Float[Tensor, "pairs positions dim"]:
        """Rows of the codebook, drawn evenly."""
        shape = (len(tokens.feat), self.model.config.code_seq_len)
        drawn = torch.randint(0, self.model.config.codebook_size, shape, generator=self._generator)
        return self.model.quantizer.lookup(drawn.to(tokens.feat.device))


def untrained_coder(model: ConcertoLAQ, *, seed: int) -> Coder:
    """A control: the same model before its first step, in the same units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = ConcertoLAQ(model.config)
    fresh.set_feature_statistics(model.feature_mean.cpu(), model.feature_std.cpu(), model.motion_size.cpu())
    return Coder(fresh.to(model.feature_mean.device).eval())


@torch.no_grad()
def code_pairs(
    batches: Iterable[tuple[Sequence[PairName], PairTokens]],
    coders: Mapping[str, Coder],
    *,
    device: torch.device | str = "cpu",
) -> tuple[list[PairName], dict[str, CodedPairs]]:
    """Every coder over every pair; tokens, which are dear, are made once and kept for one batch."""
    names: list[PairName] = []
    parts: dict[str, list[CodedPairs]] = {name: [] for name in coders}
    for batch_names, batch in batches:
        names += batch_names
        tokens = batch.to(device)
        for name, coder in coders.items():
            parts[name].append(_code_batch(tokens, coder))
    return names, {name: join_coded(found) for name, found in parts.items() if found}


def _code_batch(tokens: PairTokens, coder: Coder) -> CodedPairs:
    quantizer = coder.model.quantizer
    vectors = coder.vectors(tokens)
    codes = quantizer.nearest(vectors)
    embedding = quantizer.lookup(codes)
    error, copy_error = prediction_errors(coder.model, tokens, embedding)
    still = quantizer.nearest(coder.vectors(standing_still(tokens, STANDSTILL_PAIRS)))
    return CodedPairs(
        codes=codes.cpu(),
        embedding=embedding.flatten(1).float().cpu(),
        continuous=vectors.flatten(1).float().cpu(),
        standstill_codes=still.cpu(),
        error=error.cpu(),
        copy_error=copy_error.cpu(),
    )


def standing_still(tokens: PairTokens, count: int) -> PairTokens:
    """The current frame of the first pairs with itself: nothing moves, and nothing seems to."""
    feat = tokens.feat[:count, :1].repeat(1, 2, 1, 1)
    feat[..., BOTH_FRAMES] = 0.0  # by the true future
    return PairTokens(
        feat=feat,
        state=tokens.state[:count, :1].expand(-1, 2, -1),
        position=tokens.position[:count],
        is_valid=tokens.is_valid[:count],
    )


def prediction_errors(
    model: ConcertoLAQ, tokens: PairTokens, vectors: Float[Tensor, "pairs positions dim"]
) -> tuple[Float[Tensor, "pairs groups"], Float[Tensor, "pairs groups"]]:
    """Errors of the change predicted from the codes' vectors, and of predicting none, for each of ``GROUPS``.

    ``all`` is what ``ConcertoLAQ.prediction_error`` gives; the others split it by places and by channels.
    """
    places = compare_places(tokens, model.feature_mean, model.feature_std, model.motion_size)
    task = choose_task(
        places,
        num_context=model.config.num_context_tokens,
        num_query=model.config.num_query_tokens,
        is_random=False,
    )
    predicted = model.forward_dynamics(
        places,
        vectors,
        context_index=task.context_index,
        is_context=task.is_context,
        query_index=task.query_index,
    ).float()
    target = gather_places(places.feat[:, 1] - places.feat[:, 0], task.query_index)
    change = places.change_size.gather(1, task.query_index)
    # The first queries are the places that changed most; a still pair has none that changed.
    num_changed = min(round(CHANGED_QUERY_SHARE * model.config.num_query_tokens), places.change_size.shape[1])
    is_changed = (torch.arange(change.shape[1], device=change.device) < num_changed) & (change > 0)
    errors = [
        _grouped(guess, target, task.is_query, is_changed, model)
        for guess in (predicted, torch.zeros_like(target))
    ]
    return errors[0], errors[1]


def _grouped(
    guess: Float[Tensor, "pairs queries channels"],
    target: Float[Tensor, "pairs queries channels"],
    is_query: Bool[Tensor, "pairs queries"],
    is_changed: Bool[Tensor, "pairs queries"],
    model: ConcertoLAQ,
) -> Float[Tensor, "pairs groups"]:
    squared = (guess - target).square()
    network, geometry = squared.split([model.config.feature_channels, GEOMETRY_CHANNELS], dim=-1)
    network, geometry = network.mean(-1), geometry.mean(-1)
    both = network + model.config.geometry_weight * geometry
    return torch.stack(
        [
            masked_mean_per_pair(both, is_query),
            masked_mean_per_pair(both, is_query & is_changed),
            masked_mean_per_pair(both, is_query & ~is_changed),
            masked_mean_per_pair(network, is_query),
            masked_mean_per_pair(geometry, is_query),
        ],
        dim=1,
    )


def join_coded(parts: Sequence[CodedPairs]) -> CodedPairs:
    """Batches of one coder as one."""
    return CodedPairs(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})
