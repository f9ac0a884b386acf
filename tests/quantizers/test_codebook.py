"""The care of a codebook: where codes start, how they are counted, and how the unused come back."""

import math

import torch
from torch.testing import assert_close

from laq_model.quantizers.codebook import (
    NOISE_SHARE,
    REPLACEMENT_END,
    REPLACEMENT_PERIOD_STEPS,
    Codebook,
    rows_of_data,
)
from laq_model.quantizers.nsvq import NSVQ


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(codebook_size: int = 8, dim: int = 4, num_positions: int = 2) -> Codebook:
    torch.manual_seed(0)
    return Codebook(
        codebook_size=codebook_size, dim=dim, num_positions=num_positions, learning_rate_gain=10.0
    )


def smallest_distance(codes: torch.Tensor) -> float:
    distance = torch.cdist(codes, codes) + torch.eye(len(codes)) * 1e9
    return float(distance.min())


def run_periods(codebook: Codebook, rows: torch.Tensor, *, code: int, progress: float) -> None:
    """One whole period in which only one code is hit."""
    for step in range(REPLACEMENT_PERIOD_STEPS):
        codebook.count(torch.full((5, 2), code))
        codebook.replace_unused(rows, torch.ones(len(rows)), generator=seeded(step), progress=progress)


def test_codes_start_on_the_data_once():
    codebook = build()
    rows = 5 + torch.randn(40, 4, generator=seeded(1))
    codebook.start(rows, seeded(2))
    started = codebook.codes.detach().clone()
    nearest = torch.cdist(started, rows).min(dim=1).values
    # A code is a row plus noise of NOISE_SHARE standard deviations (1) in each of 4 dimensions.
    assert nearest.max() < 5 * NOISE_SHARE * math.sqrt(4)
    codebook.start(rows + 100, seeded(3))
    assert torch.equal(codebook.codes, started)


def test_codes_that_start_on_too_few_rows_are_still_different():
    codebook = build(codebook_size=64)
    codebook.start(torch.randn(6, 4, generator=seeded(1)), seeded(2))
    assert smallest_distance(codebook.codes.detach()) > 1e-3


def test_unused_codes_move_to_data_and_are_no_duplicates():
    codebook = build()
    codebook.start(torch.randn(40, 4, generator=seeded(1)), seeded(2))
    before = codebook.codes.detach().clone()
    rows = 50 + torch.randn(40, 4, generator=seeded(3))
    run_periods(codebook, rows, code=3, progress=0.1)
    after = codebook.codes.detach()
    assert torch.equal(after[3], before[3])
    moved = torch.cat([after[:3], after[4:]])
    assert torch.cdist(moved, rows).min(dim=1).values.max() < 5 * NOISE_SHARE * math.sqrt(4)
    assert smallest_distance(moved) > 1e-2


def test_replaced_codes_are_different_even_when_all_data_are_one_point():
    codebook = build()
    run_periods(codebook, torch.ones(40, 4), code=0, progress=0.1)
    # NOISE_SHARE of the least spread (1e-3) is 5e-5; a float32 near 1 resolves 1e-7.
    assert smallest_distance(codebook.codes.detach()[1:]) > 1e-6


def test_replacement_waits_for_a_whole_period_and_ends_before_training_does():
    codebook = build()
    before = codebook.codes.detach().clone()
    rows = torch.randn(40, 4, generator=seeded(3))
    for _ in range(REPLACEMENT_PERIOD_STEPS - 1):
        codebook.count(torch.zeros(5, 2, dtype=torch.int64))
        codebook.replace_unused(rows, torch.ones(40), generator=seeded(0), progress=0.1)
    assert torch.equal(codebook.codes, before)
    run_periods(build_at := build(), rows, code=0, progress=REPLACEMENT_END)
    assert torch.equal(build_at.codes, before)


def test_candidates_are_those_that_their_code_serves_badly():
    rows = torch.arange(100.0)[:, None].expand(100, 2)
    weight = torch.zeros(100)
    weight[[17, 42, 99]] = 1.0
    drawn = rows_of_data(rows, 3, weight=weight, generator=seeded(0))
    spread = rows.std(dim=0, correction=0)[0]
    assert (
        drawn[:, 0].sort().values - torch.tensor([17.0, 42.0, 99.0])
    ).abs().max() < 5 * NOISE_SHARE * spread
    assert not torch.equal(drawn[:, 0], drawn[:, 0].round())


def test_resume_goes_on_with_the_same_bits():
    def steps(quantizer: NSVQ, first: int, last: int) -> None:
        for step in range(first, last):
            x = torch.randn(4, 2, 4, generator=seeded(step))
            quantizer(x, generator=seeded(1000 + step), progress=0.2)

    def fresh() -> NSVQ:
        torch.manual_seed(0)
        return NSVQ(codebook_size=64, dim=4, num_positions=2)

    unbroken, first_half, second_half = fresh(), fresh(), fresh()
    steps(unbroken, 0, 70)
    steps(first_half, 0, 45)
    second_half.load_state_dict(first_half.state_dict())
    steps(second_half, 45, 70)
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, second_half.state_dict()[name]), name


def test_optimiser_steps_move_codes_by_the_gain():
    codebook = build()
    before = codebook.codes.detach().clone()
    optimizer = torch.optim.Adam(codebook.parameters(), lr=1e-3)
    codebook.codes.sum().backward()
    optimizer.step()
    assert_close(before - codebook.codes.detach(), torch.full((8, 4), 1e-2), rtol=1e-3, atol=1e-6)
