"""One model over all pairs."""

import torch
from torch.testing import assert_close

from laq_model.action_model.places import compare_places
from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig, feature_statistics
from laq_model.evaluation.coded_pairs import (
    GROUPS,
    Coder,
    RandomCoder,
    code_pairs,
    prediction_errors,
    standing_still,
    untrained_coder,
)
from laq_model.structures import PairTokens
from synthetic_store import FEATURE_CHANNELS, action_tokens, pair_names

CONFIG = ConcertoLAQConfig(
    feature_channels=FEATURE_CHANNELS,
    dim=16,
    codebook_size=8,
    code_seq_len=2,
    spatial_depth=1,
    temporal_depth=1,
    predictor_depth=1,
    num_heads=2,
    quantizer_dim=4,
    num_changed_tokens=6,
    num_context_tokens=6,
    num_query_tokens=6,
    geometry_weight=0.5,
)


def model(seed: int = 0) -> ConcertoLAQ:
    torch.manual_seed(seed)
    laq = ConcertoLAQ(CONFIG).eval()
    laq.set_feature_statistics(*feature_statistics([action_tokens(16)]))
    return laq


def rows(tokens: PairTokens, which: slice) -> PairTokens:
    return PairTokens(**{name: value[which] for name, value in vars(tokens).items()})


def test_errors_are_the_model_s_own_and_split_without_rest():
    laq, tokens = model(), action_tokens(7, seed=3)
    codes = laq.encode(tokens).codes
    error, copy_error = prediction_errors(laq, tokens, laq.quantizer.lookup(codes))
    columns = {name: error[:, column] for column, name in enumerate(GROUPS)}
    assert_close(columns["all"], laq.prediction_error(tokens, codes))
    assert_close(copy_error[:, 0], laq.copy_error(tokens))
    assert_close(columns["network"] + 0.5 * columns["geometry"], columns["all"])
    # Three of the six queried places are those that changed most, where three changed.
    places = compare_places(tokens, laq.feature_mean, laq.feature_std, laq.motion_size)
    is_enough = ((places.change_size > 0) & places.is_seen).sum(1) >= 3
    assert is_enough.sum() > 4
    assert_close(((columns["changed"] + columns["others"]) / 2)[is_enough], columns["all"][is_enough])


def test_a_frame_with_itself_has_no_copy_error_and_nothing_that_changed():
    laq, tokens = model(), standing_still(action_tokens(7), 5)
    assert len(tokens.feat) == 5
    assert torch.equal(tokens.feat[:, 0], tokens.feat[:, 1])
    error, copy_error = prediction_errors(laq, tokens, laq.encode(tokens).vectors)
    assert (copy_error == 0).all()
    assert (error[:, GROUPS.index("changed")] == 0).all()
    assert (error[:, GROUPS.index("others")] > 0).all()  # an untrained model expects something to happen


def test_batches_change_nothing():
    laq, tokens, names = model(), action_tokens(9), pair_names("v.webm", 9)
    coder = {"trained": Coder(laq)}
    whole_names, whole = code_pairs([(names, tokens)], coder)
    parts = [(names[:4], rows(tokens, slice(0, 4))), (names[4:], rows(tokens, slice(4, 9)))]
    part_names, joined = code_pairs(parts, coder)
    assert part_names == whole_names == names
    assert torch.equal(joined["trained"].codes, whole["trained"].codes)
    assert_close(joined["trained"].error, whole["trained"].error)
    # Frames with themselves all look alike to the model, so they have one code; two of each batch are tried.
    assert len(joined["trained"].standstill_codes) == 4
    assert len(joined["trained"].standstill_codes.unique(dim=0)) == 1


def test_vectors_are_those_of_the_codes():
    laq, tokens = model(), action_tokens(6)
    coded = code_pairs([(pair_names("v", 6), tokens)], {"trained": Coder(laq)})[1]["trained"]
    action = laq.encode(tokens)
    assert torch.equal(coded.embedding, action.vectors.flatten(1))
    assert_close(coded.continuous, laq.encode_continuous(tokens).flatten(1))
    one_hot = coded.one_hot(8)
    assert one_hot.shape == (6, 16)
    assert torch.equal(one_hot.view(6, 2, 8).argmax(-1), coded.codes)


def test_random_codes_follow_from_the_seed_and_fill_the_codebook():
    laq, tokens = model(), action_tokens(200)
    batch = [(pair_names("v", 200), tokens)]
    first, second = (code_pairs(batch, {"random": RandomCoder(laq, seed=4)})[1]["random"] for _ in range(2))
    assert torch.equal(first.codes, second.codes)
    assert set(first.codes.flatten().tolist()) == set(range(8))
    assert torch.equal(first.continuous, first.embedding)  # nothing of the true model's vectors is left


def test_the_untrained_control_has_the_same_units_and_other_weights():
    laq = model()
    state = torch.get_rng_state()
    control = untrained_coder(laq, seed=7).model
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(control.feature_std, laq.feature_std)
    assert not torch.equal(control.forward_dynamics.code.weight, laq.forward_dynamics.code.weight)
    again = untrained_coder(laq, seed=7).model
    assert torch.equal(control.forward_dynamics.code.weight, again.forward_dynamics.code.weight)
