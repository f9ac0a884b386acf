"""The latent action model on a small world of cells in which the motion is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from laq_model.action_model.motion import MOTION_CHANNELS
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.evaluation.coded_pairs import standing_still
from laq_model.metrics.codebook import code_usage
from laq_model.metrics.probes import ridge_probe
from laq_model.presets import with_preset
from laq_model.structures import (
    BOTH_FRAMES,
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPIED,
    SEEN_THROUGH,
    UNKNOWN,
    PairTokens,
)
from moving_box import (
    CHANNELS,
    FEATURE_CHANNELS,
    SMALL,
    build,
    displaced_box,
    fit,
    moving_box,
    rows,
    seeded,
)

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
    still = standing_still(moving_box(6)[0], 6)
    model = build()
    latent = model.encode_continuous(still)
    assert_close(latent, latent[:1].expand_as(latent), rtol=0, atol=1e-5)  # the order of sums may differ
    assert model.copy_error(still).max() == 0.0


def test_a_still_world_has_that_code_in_any_light_and_from_any_side():
    still = standing_still(moving_box(6)[0], 6)
    model = build()
    latent = model.encode_continuous(still)
    still.feat[:, 1, :, :FEATURE_CHANNELS] += torch.randn(6, 72, FEATURE_CHANNELS, generator=seeded(5))
    still.feat[0, 0, :1, SEEN_THROUGH] = 0.1  # a speck
    assert model.copy_error(still).min() > 0
    assert_close(model.encode_continuous(still), latent, rtol=0, atol=1e-5)
    still.feat[0, 0, :1, SEEN_THROUGH] = 1.0  # a thing
    assert not torch.allclose(model.encode_continuous(still)[0], latent[0], atol=1e-3)


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


# ── losses


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


def test_half_precision_runs_and_keeps_losses_in_float32():
    tokens, _ = moving_box(8)
    model = build()
    exact = model.eval()(tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(tokens)
    assert rounded.loss.dtype == torch.float32
    assert float(rounded.copy_loss) == float(exact.copy_loss)
    assert_close(rounded.loss, exact.loss, rtol=0.02, atol=0)  # bf16 keeps three digits
