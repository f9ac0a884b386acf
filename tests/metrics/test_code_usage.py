"""Use of a codebook, counted by hand."""

import math

import pytest
import torch

from laq_model.metrics.codebook import code_usage, same_code_fraction


def test_usage_of_four_pairs():
    usage = code_usage(torch.tensor([[0, 5], [1, 5], [0, 5], [1, 6]]), codebook_size=8)
    assert usage.used_fraction == pytest.approx(4 / 8)
    assert usage.position_used_fraction == pytest.approx([2 / 8, 2 / 8])
    assert usage.position_perplexity[0] == pytest.approx(2.0)
    assert usage.position_perplexity[1] == pytest.approx(
        math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    )
    assert usage.num_joint == 3
    assert usage.joint_perplexity == pytest.approx(
        math.exp(-(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25)))
    )
    together = [2, 2, 3, 1]
    assert usage.perplexity == pytest.approx(math.exp(-sum(n / 8 * math.log(n / 8) for n in together)))


def test_one_code_for_everything_is_a_collapse():
    usage = code_usage(torch.full((50, 4), 3), codebook_size=256)
    assert (usage.perplexity, usage.joint_perplexity, usage.num_joint) == (1.0, 1.0, 1)
    assert usage.used_fraction == pytest.approx(1 / 256)


@pytest.mark.parametrize("wrong", [-1, 8])
def test_codes_outside_the_codebook_are_refused(wrong: int):
    with pytest.raises(ValueError, match=r"codes must be in 0 \.\. 7"):
        code_usage(torch.tensor([[0, wrong]]), codebook_size=8)


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        code_usage(torch.zeros(0, 4, dtype=torch.int64), codebook_size=8)


def test_same_code_fraction_counts_positions():
    assert same_code_fraction(
        torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 0], [3, 4]])
    ) == pytest.approx(0.75)
