"""The health monitor: each figure by hand, each warning, and the collapses that are known to happen.

The second half builds every mechanism that made an earlier attempt at this model collapse, sees the monitor
find it, and sees that our own parts do not have it.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from laq_model.action_model.config import ConcertoLAQConfig
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.metrics.health import (
    Health,
    count_duplicates,
    find_warnings,
    identical_token_fraction,
    idle_parameters,
    terms_without_gradient,
)
from laq_model.quantizers.build import build_quantizer
from laq_model.quantizers.codebook import REPLACEMENT_PERIOD_STEPS, nearest_code
from laq_model.quantizers.nsvq import NSVQ
from laq_model.structures import GEOMETRY_CHANNELS, OCCUPIED, PairTokens

SOUND = Health(
    progress=0.6, codebook_size=256, num_pairs=2000, position_perplexity=[150.0, 120.0], copy_ratio=0.3
)
SIZE, DIM, POSITIONS = 16, 8, 3


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(batch: int = 40, *, seed: int = 1) -> Tensor:
    return torch.randn(batch, POSITIONS, DIM, generator=seeded(seed))


# ── figures


def test_idle_parameters_are_those_without_a_real_gradient():
    network = nn.ModuleDict({name: nn.Linear(2, 1, bias=False) for name in "abcde"})
    network["e"].weight.requires_grad_(False)
    x = torch.ones(1, 2)
    (network["a"](x) + 0 * network["b"](x) + torch.inf * network["c"](x)).sum().backward()
    assert idle_parameters(network) == ["b.weight", "c.weight", "d.weight"]


def test_duplicates_are_counted_by_distance_and_size():
    # Spread of the four codes is 1.22: 1e-3 of it is the limit.
    codes = torch.tensor([[0.0, 0.0], [0.0, 1e-4], [1.0, 0.0], [0.0, 3.0]])
    assert count_duplicates(codes) == 2
    assert count_duplicates(1e6 * codes) == 2
    assert count_duplicates(codes[[0, 2, 3]]) == 0
    assert count_duplicates(torch.ones(5, 3)) == 5
    assert count_duplicates(torch.zeros(1, 3)) == 0


def test_duplicates_far_apart_in_a_large_codebook_are_found():
    codes = torch.randn(2500, 4, generator=seeded(0))
    codes[2400] = codes[3]
    assert count_duplicates(codes) == 2


def test_identical_tokens_by_hand():
    assert identical_token_fraction(torch.tensor([[1, 1, 1], [1, 1, 2], [3, 3, 3], [0, 1, 2]])) == 0.5
    assert identical_token_fraction(torch.tensor([[1], [1]])) == 0.0


# ── warnings


def test_a_sound_run_gives_no_warning():
    assert find_warnings([dataclasses.replace(SOUND, progress=0.1), SOUND]) == {}


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"position_perplexity": [25.0, 120.0]}, "low_perplexity", "position 0: 25.0 of 256 codes"),
        ({"position_perplexity": [70.0, 120.0]}, "falling_perplexity", "position 0: 150.0 to 70.0"),
        ({"copy_ratio": 1.01}, "copying", "copy ratio 1.01"),
        ({"hard_code_gap": 0.25}, "leak", "hard codes have 25 % more error"),
        ({"num_duplicates": 7}, "duplicates", "7 of 256 codes have the place of another"),
        ({"identical_token_fraction": 0.97}, "identical_tokens", "in 97 % of the pairs"),
        ({"idle_parameters": ["a.weight"]}, "idle_parameters", "no gradient reaches a.weight"),
        ({"idle_parameters": list("abcde")}, "idle_parameters", "a, b, c and 2 more parameters"),
    ],
)
def test_each_trouble_has_its_warning(change: dict, kind: str, text: str):
    history = [SOUND, *[dataclasses.replace(SOUND, **change)] * 3]
    warnings = find_warnings(history)
    assert text in warnings[kind]
    allowed = {kind, "falling_perplexity"} if kind == "low_perplexity" else {kind}
    assert set(warnings) == allowed


def test_a_parameter_that_is_idle_once_is_no_trouble():
    idle = dataclasses.replace(SOUND, idle_parameters=["a", "b"])
    once = dataclasses.replace(SOUND, idle_parameters=["b"])
    assert find_warnings([idle, once, idle]) == {"idle_parameters": "no gradient reaches b"}
    assert find_warnings([idle, idle, SOUND]) == {}
    assert find_warnings([SOUND, idle, idle]) == {}


def test_young_runs_and_small_counts_are_judged_gently():
    young = dataclasses.replace(SOUND, progress=0.05, copy_ratio=1.2, hard_code_gap=0.5)
    assert find_warnings([young]) == {}
    few = dataclasses.replace(SOUND, num_pairs=12, position_perplexity=[8.0, 9.0])
    assert find_warnings([few]) == {}
    small = dataclasses.replace(SOUND, codebook_size=8, position_perplexity=[1.6, 4.0])
    assert find_warnings([small]) == {}
    collapsed = dataclasses.replace(SOUND, codebook_size=8, position_perplexity=[1.0, 4.0])
    assert set(find_warnings([collapsed])) == {"low_perplexity"}


# ── known collapses, and that ours does not have them


def test_an_entropy_of_counts_is_a_constant_and_our_terms_are_not():
    encoder = nn.Linear(DIM, DIM)
    x = encoder(vectors())
    codes = nn.Parameter(torch.randn(SIZE, DIM, generator=seeded(3)))
    hits = torch.bincount(nearest_code(x, codes).flatten(), minlength=SIZE).float()
    share = hits / hits.sum()
    terms = {
        "entropy_loss": (share * (share + 1e-9).log()).sum(),
        "balance_loss": (share - 1 / SIZE).square().sum().requires_grad_(),
    }
    assert terms_without_gradient(terms, [*encoder.parameters(), codes]) == ["entropy_loss", "balance_loss"]
    for scheme in ("nsvq", "fsq", "ema"):
        quantizer = build_quantizer(scheme, codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
        out = quantizer(encoder(vectors()), generator=seeded(0))  # EMA-VQ starts at the second step
        out = quantizer(encoder(vectors()), generator=seeded(0))
        parameters = [*encoder.parameters(), *quantizer.parameters()]
        assert terms_without_gradient(out.loss_terms, parameters) == []


def test_looked_up_codes_stop_the_gradient_and_ours_do_not():
    encoder, predictor = nn.Linear(DIM, DIM), nn.Linear(DIM, 1)
    codes = nn.Parameter(torch.randn(SIZE, DIM, generator=seeded(3)))
    x = encoder(vectors())
    looked_up = codes.detach()[nearest_code(x, codes)]
    predictor(looked_up).sum().backward()
    network = nn.ModuleDict({"encoder": encoder, "predictor": predictor})
    network.register_parameter("codes", codes)
    assert idle_parameters(network) == ["codes", "encoder.weight", "encoder.bias"]
    for scheme in ("nsvq", "fsq", "ema"):
        encoder.zero_grad()
        quantizer = build_quantizer(scheme, codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
        quantizer(encoder(vectors()), generator=seeded(0))
        out = quantizer(encoder(vectors()), generator=seeded(0), hard_share=1.0)
        # Weighted, since an even sum has no slope along the length that the vectors lost.
        (out.quantized * vectors(seed=6)).sum().backward()
        assert idle_parameters(encoder) == []


def replace_by_copies(codes: Tensor, hits: Tensor, _: Tensor) -> Tensor:
    """What the collapsed attempt did: unused codes become the most used one, with noise of 1e-12."""
    used = codes[hits.argmax()]
    return torch.where((hits == 0)[:, None], used + 1e-12 * torch.randn_like(codes), codes)


def test_replacing_by_copies_leaves_codes_unused_and_ours_does_not():
    # Vectors in 8 places; the codes start in one corner, so that only one of 16 is used.
    places = 5 * torch.randn(8, DIM, generator=seeded(4))
    corner = 100 + 0.01 * torch.randn(SIZE, DIM, generator=seeded(5))

    def batch(seed: int) -> Tensor:
        which = torch.randint(8, (40, POSITIONS), generator=seeded(seed))
        return places[which] + 0.1 * torch.randn(40, POSITIONS, DIM, generator=seeded(seed + 1))

    codes = corner.clone()
    for step in range(5):
        index = nearest_code(batch(step), codes)
        hits = torch.bincount(index.flatten(), minlength=SIZE)
        codes = replace_by_copies(codes, hits, batch(step))
    used = len(nearest_code(batch(9), codes).unique())
    assert used == 1
    assert count_duplicates(codes) >= SIZE - 1

    torch.manual_seed(0)
    ours = NSVQ(codebook_size=SIZE, dim=DIM, num_positions=POSITIONS)
    ours.codebook.is_started.fill_(True)
    with torch.no_grad():
        ours.codebook.weight.copy_(corner / ours.codebook.learning_rate_gain)
        for step in range(5 * REPLACEMENT_PERIOD_STEPS):
            out = ours(batch(step), generator=seeded(step), progress=0.1)
    assert len(ours.nearest(batch(9)).unique()) >= 8
    assert count_duplicates(ours.lookup(torch.arange(SIZE)[None])[0]) == 0
    warnings = find_warnings(
        [
            Health(
                progress=0.1,
                codebook_size=SIZE,
                num_pairs=40,
                position_perplexity=out.usage.position_perplexity.tolist(),
                copy_ratio=0.5,
            )
        ]
    )
    assert warnings == {}


def small_model() -> tuple[ConcertoLAQ, PairTokens]:
    config = ConcertoLAQConfig(
        feature_channels=2,
        dim=16,
        num_heads=2,
        codebook_size=SIZE,
        quantizer_dim=DIM,
        spatial_depth=1,
        temporal_depth=1,
        predictor_depth=1,
    )
    torch.manual_seed(0)
    pair = PairTokens(
        feat=torch.randn(6, 2, 10, 2 + GEOMETRY_CHANNELS, generator=seeded(0)),
        state=torch.full((6, 2, 10), OCCUPIED),
        position=torch.rand(6, 10, 3, generator=seeded(1)) * 2 - 1,
        is_valid=torch.ones(6, 10, dtype=torch.bool),
    )
    return ConcertoLAQ(config), pair


def test_a_trained_target_vanishes_and_ours_is_fixed():
    # Predicting "no change" of a trainable projection: the projection learns to show no change.
    change = torch.randn(64, 8, generator=seeded(0))
    target = nn.Linear(8, 8, bias=False)
    optimizer = torch.optim.Adam(target.parameters(), lr=0.03)
    first = float(target(change).detach().square().mean())
    for _ in range(100):
        optimizer.zero_grad()
        loss = target(change).square().mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3 * first

    model, pair = small_model()
    model.feature_std.mul_(2)
    before = model.copy_error(pair)
    out = model(pair, generator=seeded(0), hard_share=0.5)
    assert not out.copy_loss.requires_grad
    assert terms_without_gradient({"copy_loss": out.copy_loss}, model.parameters()) == ["copy_loss"]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    out.loss.backward()
    assert idle_parameters(model) == []
    optimizer.step()
    assert torch.equal(model.copy_error(pair), before)


def test_one_pooled_vector_makes_equal_tokens_and_ours_differ():
    pooled = torch.randn(30, 1, DIM, generator=seeded(0)).expand(-1, POSITIONS, -1)
    codes = torch.randn(SIZE, DIM, generator=seeded(1))
    assert identical_token_fraction(nearest_code(pooled, codes)) == 1.0
    model, pair = small_model()
    model(pair, generator=seeded(0))
    assert identical_token_fraction(model.encode(pair).codes) == 0.0
