"""The latent action model on a small world of cells in which the motion is known."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from laq_model.action_model.motion import MOTION_CHANNELS, scene_motion
from laq_model.action_model.places import gather_places, place_order, take_largest
from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig, feature_statistics
from laq_model.errors import ConfigError, RunError, WeightsError
from laq_model.metrics.codebook import code_usage
from laq_model.metrics.probes import ridge_probe
from laq_model.presets import with_preset
from laq_model.structures import (
    BOTH_FRAMES,
    DISPLACEMENT,
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPANCY,
    OCCUPIED,
    SEEN_THROUGH,
    UNKNOWN,
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


# ── learning


def test_over_fits_one_pair():
    tokens, _ = moving_box(1, seed=3)
    model = build(tokens=moving_box(8, seed=5)[0])
    fit(model, tokens, steps=80, batch_size=4)
    assert float(model.prediction_error(tokens, model.encode(tokens).codes) / model.copy_error(tokens)) < 0.05


def test_codes_tell_the_motion_of_held_out_pairs():
    tokens, displacement = moving_box(320, seed=1)
    held_out, truth = moving_box(120, seed=2)
    model = build(tokens=tokens)
    untrained = probe(model, tokens, displacement, held_out, truth)
    fit(model, tokens, steps=250, batch_size=32)
    codes = model.encode(held_out).codes
    ratio = model.prediction_error(held_out, codes).sum() / model.copy_error(held_out).sum()
    assert float(ratio) < 0.5
    assert probe(model, tokens, displacement, held_out, truth) > max(0.6, untrained + 0.2)
    assert code_usage(codes, codebook_size=16).used_fraction > 0.5
    wrong = model.prediction_error(held_out, codes.roll(1, dims=0)).sum() / model.copy_error(held_out).sum()
    assert float(wrong) > 1.5 * float(ratio)  # the predictor listens to the codes


def probe(
    model: ConcertoLAQ,
    tokens: PairTokens,
    truth: torch.Tensor,
    held_out: PairTokens,
    held_out_truth: torch.Tensor,
) -> float:
    vectors, held_out_vectors = (
        model.encode(tokens).vectors.flatten(1),
        model.encode(held_out).vectors.flatten(1),
    )
    return ridge_probe(vectors, truth, held_out_vectors, held_out_truth).r2_mean


@pytest.mark.parametrize("code_seq_len", [1, 2, 4, 16])
def test_every_parameter_gets_a_gradient_at_any_length(code_seq_len: int):
    tokens = displaced_box(16)
    model = build(dataclasses.replace(SMALL, code_seq_len=code_seq_len))
    out = model(tokens, generator=seeded(1), hard_share=0.5)
    out.loss.backward()
    idle = [
        name
        for name, value in model.named_parameters()
        if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert idle == []
    assert out.code_index.shape == (16, code_seq_len)


@pytest.mark.parametrize("scheme", ["fsq", "ema"])
def test_every_parameter_gets_a_gradient_under_any_scheme(scheme: str):
    tokens = displaced_box(32)
    model = build(dataclasses.replace(SMALL, quantizer=scheme))
    model(tokens, generator=seeded(1)).loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_lapa_s_sizes_are_a_preset():
    config = with_preset(dataclasses.replace(SMALL, codebook_size=256, quantizer_dim=8), "lapa")
    assert (config.codebook_size, config.code_seq_len, config.quantizer_dim) == (8, 4, 32)
    tokens, _ = moving_box(16)
    out = build(config)(tokens, generator=seeded(1), hard_share=0.5)
    out.loss.backward()
    assert out.code_index.max() < 8


@pytest.mark.parametrize("hard_share", [0.0, 1.0])
def test_the_prediction_alone_trains_the_action_encoder(hard_share: float):
    model = build()
    model(displaced_box(16), generator=seeded(1), hard_share=hard_share).prediction_loss.backward()
    idle = [
        name
        for name, value in model.inverse_dynamics.named_parameters()
        if value.grad is None or not value.grad.abs().sum() > 0
    ]
    assert idle == []
    if hard_share == 0.0:
        assert model.quantizer.codebook.weight.grad.abs().sum() > 0


def test_action_tokens_are_no_copies_of_each_other():
    latent = build().encode_continuous(moving_box(4)[0])
    distance = torch.cdist(latent, latent) + torch.eye(4) * 1e9
    assert distance.min() > 0.1


# ── what codes may depend on


def test_what_comes_into_or_out_of_view_does_not_touch_the_codes():
    tokens, _ = moving_box(8)
    hidden = torch.rand(8, 72, generator=seeded(3)) < 0.3
    state = tokens.state.clone()
    state[:, 0][hidden] = UNKNOWN
    masked = dataclasses.replace(tokens, state=state)
    noisy_feat = tokens.feat.clone()
    noisy_feat[:, 1][hidden] = 5 * torch.randn(int(hidden.sum()), CHANNELS, generator=seeded(4))
    noisy_state = state.clone()
    noisy_state[:, 1][hidden] = FREE
    model = build()
    latent = model.encode_continuous(masked)
    assert_close(
        model.encode_continuous(dataclasses.replace(masked, feat=noisy_feat)), latent, rtol=0, atol=0
    )
    changed = dataclasses.replace(masked, feat=noisy_feat, state=noisy_state)
    assert_close(model.encode_continuous(changed), latent, rtol=0, atol=0)
    assert not torch.allclose(model.encode_continuous(tokens), latent)  # the motion itself does count


def test_a_still_world_has_one_code_wherever_it_is():
    tokens, _ = moving_box(6)
    still = dataclasses.replace(
        tokens, feat=tokens.feat[:, :1].repeat(1, 2, 1, 1), state=tokens.state[:, :1].repeat(1, 2, 1)
    )
    still.feat[..., SEEN_THROUGH] = 0.0
    model = build()
    latent = model.encode_continuous(still)
    assert_close(latent, latent[:1].expand_as(latent), rtol=0, atol=1e-5)  # the order of sums may differ
    assert model.copy_error(still).max() == 0.0


@pytest.mark.parametrize("training", [True, False])
def test_pairs_that_share_no_place_give_numbers(training: bool):
    tokens, _ = moving_box(4)
    state = tokens.state.clone()
    state[:2, 0] = UNKNOWN
    blind = dataclasses.replace(tokens, state=state)
    model = build().train(training)
    out = model(blind, generator=seeded(1), hard_share=0.5)
    assert all(torch.isfinite(value) for value in out.scalars().values())
    if training:
        out.loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.encode(blind).vectors).all()
    assert torch.isfinite(model.predict_next(blind, out.code_index)).all()
    assert model.prediction_error(blind, out.code_index)[:2].tolist() == [0.0, 0.0]
    # Losses are means over the pairs that do see some place twice.
    assert_close(model.copy_error(blind)[2:], model.copy_error(tokens)[2:])
    if not training:
        assert_close(out.copy_loss, model.copy_error(tokens)[2:].mean())


def test_nothing_depends_on_neighbours_padding_or_the_order_of_tokens():
    tokens, _ = moving_box(6)
    model = build().eval()
    latent, codes = model.encode_continuous(tokens), model.encode(tokens).codes
    error = model.prediction_error(tokens, codes)
    # Sums of other lengths round differently: 1e-5 of values of size 1.
    alone = rows(tokens, torch.tensor([4]))
    assert_close(model.encode_continuous(alone), latent[4:5], rtol=0, atol=1e-5)
    padded = PairTokens(
        feat=torch.cat([tokens.feat, torch.full((6, 2, 9, CHANNELS), 7.0)], dim=2),
        state=torch.cat([tokens.state, torch.full((6, 2, 9), OCCUPIED)], dim=2),
        position=torch.cat([tokens.position, torch.zeros(6, 9, 3)], dim=1),
        is_valid=torch.cat([tokens.is_valid, torch.zeros(6, 9, dtype=torch.bool)], dim=1),
    )
    assert_close(model.encode_continuous(padded), latent, rtol=0, atol=1e-5)
    assert_close(model.prediction_error(padded, codes), error, rtol=1e-4, atol=1e-5)
    order = torch.randperm(72, generator=seeded(2))
    shuffled = PairTokens(
        tokens.feat[:, :, order],
        tokens.state[:, :, order],
        tokens.position[:, order],
        tokens.is_valid[:, order],
    )
    few = dataclasses.replace(
        SMALL, num_changed_tokens=72, num_query_tokens=144
    )  # ties aside: take every place
    model = build(few).eval()
    assert_close(model.encode_continuous(shuffled), model.encode_continuous(tokens), rtol=0, atol=1e-5)
    assert_close(
        model.prediction_error(shuffled, codes), model.prediction_error(tokens, codes), rtol=1e-4, atol=1e-5
    )


def test_the_predictor_never_sees_the_future():
    tokens, _ = moving_box(5)
    model = build().eval()
    codes = model.encode(tokens).codes
    other = dataclasses.replace(
        tokens,
        feat=torch.stack([tokens.feat[:, 0], torch.randn(5, 72, CHANNELS, generator=seeded(1))], dim=1),
        state=torch.stack([tokens.state[:, 0], torch.full((5, 72), UNKNOWN)], dim=1),
    )
    assert torch.equal(model.predict_next(tokens, codes), model.predict_next(other, codes))


def test_an_answer_does_not_depend_on_what_else_is_asked():
    tokens, _ = moving_box(3)
    model = build().eval()
    places = model._places(tokens)
    task = model._task(places, is_random=False)
    vectors = model.encode(tokens).vectors
    context = {"context_index": task.context_index, "is_context": task.is_context}
    together = model.forward_dynamics(places, vectors, **context, query_index=task.query_index)
    alone = model.forward_dynamics(places, vectors, **context, query_index=task.query_index[:, 3:4])
    assert_close(together[:, 3:4], alone, rtol=0, atol=1e-5)


# ── places


def test_take_largest_by_hand():
    key = torch.tensor([[1.0, 5.0, 5.0, 9.0]])
    index, is_taken = take_largest(key, torch.tensor([[True, True, True, False]]), 2)
    assert index.tolist() == [[1, 2]]
    assert is_taken.tolist() == [[True, True]]
    index, is_taken = take_largest(key, torch.tensor([[False, True, False, False]]), 9)
    assert index[0, 0] == 1
    assert is_taken.tolist() == [[True, False, False, False]]


def test_queries_are_changed_places_and_an_even_draw_of_the_rest():
    tokens, displacement = moving_box(40)
    model = build().eval()
    places = model._places(tokens)
    task = model._task(places, is_random=False)
    assert task.is_query.all()
    assert all(len(set(row.tolist())) == 16 for row in task.query_index)
    size = places.change_size.gather(1, task.query_index)
    moved = displacement.abs().sum(1) > 0
    assert (size[moved, 0] > 0).all()
    num_changed = (places.change_size > 0).sum(1)
    assert torch.equal((size[:, :8] > 0).sum(1), num_changed.clamp(max=8))
    # The draw of the rest spreads over both layers, which alternate in the order of tokens.
    air = (task.query_index[:, 8:] % 2).float().mean()
    assert 0.3 < float(air) < 0.7


def test_place_order_is_even_and_a_property_of_the_place():
    axis = (torch.arange(20) + 0.5) / 10 - 1
    place = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    order = place_order(place)[0]
    assert (order >= 0).all()
    assert (order < 1).all()
    share = torch.histc(order, bins=10, min=0, max=1) / 8000
    assert (share - 0.1).abs().max() < 0.015  # four standard errors of a fair draw
    neighbours = torch.corrcoef(torch.stack([order[:-1], order[1:]]))[0, 1]
    assert neighbours.abs() < 0.05
    flipped = place_order(place.flip(1))[0].flip(0)
    assert torch.equal(order, flipped)


def test_gather_places_takes_each_pair_s_own_rows():
    value = torch.arange(12.0).reshape(2, 3, 2)
    assert gather_places(value, torch.tensor([[2], [0]])).tolist() == [[[4.0, 5.0]], [[6.0, 7.0]]]


# ── target and losses


def test_feature_statistics_are_those_of_occupied_places():
    tokens, _ = moving_box(12)
    feat = tokens.feat.clone()
    feat[..., 2] = 3.25 * (tokens.state == OCCUPIED)
    is_moved = (feat[..., SEEN_THROUGH] > 0)[..., None]
    feat[..., DISPLACEMENT] = is_moved * torch.tensor([0.3, -0.4, 0.0])
    tokens = dataclasses.replace(tokens, feat=feat)
    mean, std, motion_size = feature_statistics(
        [rows(tokens, torch.arange(5)), rows(tokens, torch.arange(5, 12))]
    )
    occupied = feat[tokens.state == OCCUPIED]
    assert_close(mean[:2], occupied[:, :2].mean(0), rtol=1e-5, atol=1e-6)
    assert_close(std[:2], occupied[:, :2].std(0, correction=0), rtol=1e-5, atol=1e-6)
    assert (float(mean[2]), float(std[2])) == (3.25, 1.0)  # constant
    assert (float(mean[FEATURE_CHANNELS]), float(std[FEATURE_CHANNELS])) == (0.0, 1.0)  # occupancy
    assert_close(mean[DISPLACEMENT], torch.zeros(3))
    assert_close(std[DISPLACEMENT], torch.full((3,), math.sqrt(0.25 / 3)))  # of those that there are
    size = scene_motion(tokens).square().mean(0).sqrt()
    assert_close(motion_size[:2], size[:2], rtol=1e-5, atol=0.0)
    assert motion_size[2] == 1  # along z nothing ever moves
    still = dataclasses.replace(tokens, feat=feat * (torch.arange(CHANNELS) != CHANNELS + SEEN_THROUGH))
    assert feature_statistics([still]).motion_size.eq(1).all()  # nothing moves: no unit, and no division by 0
    with pytest.raises(ValueError, match="no place is occupied"):
        feature_statistics([dataclasses.replace(tokens, state=torch.full_like(tokens.state, FREE))])


def test_one_unit_for_all_network_channels():
    tokens, _ = moving_box(12)
    own = feature_statistics([tokens])
    one = feature_statistics([tokens], is_per_channel=False)
    network = own.std[:FEATURE_CHANNELS]
    assert network.max() > network.min()
    assert_close(one.std[:FEATURE_CHANNELS], network.square().mean().sqrt().expand(FEATURE_CHANNELS))
    assert_close(one.std[FEATURE_CHANNELS:], own.std[FEATURE_CHANNELS:])
    assert_close(one.mean, own.mean)


def test_copy_error_by_hand():
    # One place, seen twice, that is vacated: every channel goes from its standardised value to zero.
    feat = torch.zeros(1, 2, 1, CHANNELS)
    feat[0, 0, 0, 0], feat[0, 0, 0, FEATURE_CHANNELS] = 4.0, 1.0
    tokens = PairTokens(
        feat=feat,
        state=torch.tensor([[[OCCUPIED], [FREE]]]),
        position=torch.zeros(1, 1, 3),
        is_valid=torch.ones(1, 1, dtype=torch.bool),
    )
    model = ConcertoLAQ(dataclasses.replace(SMALL, geometry_weight=3.0))
    std = torch.ones(CHANNELS)
    std[0] = 2.0
    model.set_feature_statistics(torch.zeros(CHANNELS), std, torch.ones(MOTION_CHANNELS))
    expected = (4.0 / 2.0) ** 2 / FEATURE_CHANNELS + 3.0 * 1.0 / GEOMETRY_CHANNELS
    assert float(model.copy_error(tokens)) == pytest.approx(expected)


def test_losses_fit_together():
    tokens, _ = moving_box(16)
    model = build()
    out = model(tokens, generator=seeded(1), hard_share=0.0)
    of_codebook = sum(out.loss_terms.values())
    assert_close(out.loss, out.prediction_loss + SMALL.motion_weight * out.motion_loss + of_codebook)
    assert out.prediction_loss.item() != out.hard_code_loss.item()
    assert not out.hard_code_loss.requires_grad
    hard = model(tokens, generator=seeded(1), hard_share=1.0)
    assert_close(hard.prediction_loss, hard.hard_code_loss)
    model.eval()
    out = model(tokens)
    assert_close(out.hard_code_loss, model.prediction_error(tokens, out.code_index).mean())
    assert_close(out.copy_loss, model.copy_error(tokens).mean())
    assert_close(out.loss, out.hard_code_loss + SMALL.motion_weight * out.motion_loss)
    assert torch.equal(out.code_index, model.encode(tokens).codes)
    assert set(out.scalars()) >= {"loss", "prediction_loss", "hard_code_loss", "copy_loss", "perplexity"}


def test_equal_seeds_give_equal_bits():
    tokens, _ = moving_box(16)
    losses = [build()(tokens, generator=seeded(seed)).loss for seed in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_evaluation_changes_no_state_and_draws_nothing():
    tokens, _ = moving_box(16)
    model = build().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = model(tokens), model(tokens)
    model.encode(tokens)
    model.predict_next(tokens, first.code_index)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.loss, second.loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train()
    assert torch.equal(model.encode(tokens).codes, first.code_index)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_predict_next_speaks_the_units_of_the_features():
    tokens, _ = moving_box(3)
    model = build().eval()
    with torch.no_grad():  # a predictor that sees no change
        model.forward_dynamics.head.weight.zero_()
        model.forward_dynamics.head.bias.zero_()
    predicted = model.predict_next(tokens, model.encode(tokens).codes)
    is_occupied = tokens.state[:, 0] == OCCUPIED
    current = tokens.feat[:, 0].clone()
    current[..., BOTH_FRAMES] = 0.0  # of the true future, which a prediction does not know
    assert_close(predicted[is_occupied], current[is_occupied], rtol=1e-4, atol=1e-5)
    assert_close(predicted[..., FEATURE_CHANNELS], is_occupied.float(), rtol=0, atol=1e-6)


# ── refusals


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_no_numbers_are_refused_everywhere(bad: float):
    tokens, _ = moving_box(2)
    feat = tokens.feat.clone()
    feat[1, 0, 3, 2] = bad
    broken = dataclasses.replace(tokens, feat=feat)
    model = build()
    codes = torch.zeros(2, 4, dtype=torch.int64)
    for call in (
        lambda: model(broken),
        lambda: model.encode(broken),
        lambda: model.encode_continuous(broken),
        lambda: model.predict_next(broken, codes),
        lambda: model.prediction_error(broken, codes),
        lambda: feature_statistics([broken]),
    ):
        with pytest.raises(ValueError, match="NaN or infinite values"):
            call()


@pytest.mark.parametrize("bad", [-1, 16])
def test_codes_outside_the_codebook_are_refused(bad: int):
    tokens, _ = moving_box(2)
    with pytest.raises(ValueError, match=r"codes must be in 0 \.\. 15"):
        build().predict_next(tokens, torch.full((2, 4), bad))


def test_codes_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"codes of shape \(2, 4\) are needed"):
        build().predict_next(moving_box(2)[0], torch.zeros(2, 3, dtype=torch.int64))


def test_tokens_of_another_encoder_are_refused():
    tokens, _ = moving_box(2)
    model = ConcertoLAQ(dataclasses.replace(SMALL, feature_channels=7))
    with pytest.raises(ValueError, match=r"7 network channels and 14 of geometry, got 18 channels"):
        model.encode(tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code_seq_len": 0}, "code_seq_len must be 1 to 16, got 0"),
        ({"code_seq_len": 17}, "code_seq_len must be 1 to 16, got 17"),
        ({"dim": 30}, "num_heads must divide dim, got 4 heads for dim 30"),
        ({"codebook_size": 1}, "codebook_size must be at least 2, got 1"),
        ({"spatial_depth": 0}, "spatial_depth must be at least 1, got 0"),
        ({"geometry_weight": -1.0}, "geometry_weight must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)


def test_statistics_are_checked():
    model = ConcertoLAQ(SMALL)
    with pytest.raises(ValueError, match="statistics of 18 channels are needed, got 3"):
        model.set_feature_statistics(torch.zeros(3), torch.ones(3), torch.ones(MOTION_CHANNELS))
    with pytest.raises(ValueError, match="every std and motion size positive"):
        model.set_feature_statistics(
            torch.zeros(CHANNELS), torch.zeros(CHANNELS), torch.ones(MOTION_CHANNELS)
        )


# ── on disk


def test_a_saved_model_comes_back_the_same(tmp_path):
    tokens, _ = moving_box(6)
    model = build()
    model.save_pretrained(tmp_path)
    again = ConcertoLAQ.from_pretrained(tmp_path)
    assert not again.training
    assert again.config == SMALL
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.encode(tokens).codes, again.encode(tokens).codes)
    assert ConcertoLAQ.from_pretrained(str(tmp_path)).config == SMALL


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path):
    with pytest.raises(RunError, match=r"no folder /nowhere/at/all; give a run folder"):
        ConcertoLAQ.from_pretrained("/nowhere/at/all")
    with pytest.raises(RunError, match=r"no folder nobody/nothing, and no model of that name"):
        ConcertoLAQ.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no config\.json"):
        ConcertoLAQ.from_pretrained(tmp_path / "empty")

    folder = tmp_path / "model"
    build().save_pretrained(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        ConcertoLAQ.from_pretrained(folder)

    (folder / "model.safetensors").write_bytes(whole)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "temporal_depth": 2}))
    with pytest.raises(WeightsError, match=r"missing: inverse_dynamics\.temporal\.1"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**settings, "colour": "red"}))
    with pytest.raises(RunError, match=r"unknown settings \['colour'\]"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        ConcertoLAQ.from_pretrained(folder)


def test_half_precision_runs_and_keeps_losses_in_float32():
    tokens, _ = moving_box(8)
    model = build()
    exact = model.eval()(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(tokens)
    assert rounded.loss.dtype == torch.float32
    assert float(rounded.copy_loss) == float(exact.copy_loss)
    assert_close(rounded.loss, exact.loss, rtol=0.02, atol=0)  # bf16 keeps three digits
