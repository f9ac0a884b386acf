"""Who used which code, counted by hand."""

import math

import pytest
import torch

from laq_model.quantizers.usage import USAGE_WINDOW_STEPS, UsageWindow, hits_per_position


def test_hits_are_counted_per_code_and_position():
    hits = hits_per_position(torch.tensor([[0, 2], [0, 2], [1, 2]]), codebook_size=4)
    assert hits.tolist() == [[2, 1, 0, 0], [0, 0, 3, 0]]


def test_usage_by_hand():
    window = UsageWindow(codebook_size=8, num_positions=2)
    window.count(torch.tensor([[0, 2], [1, 2], [0, 2], [1, 2]]))
    usage = window.usage()
    assert float(usage.used_fraction) == pytest.approx(3 / 8)
    assert usage.position_perplexity.tolist() == pytest.approx([2.0, 1.0])
    entropy = -(0.25 * math.log(0.25) * 2 + 0.5 * math.log(0.5))
    assert float(usage.perplexity) == pytest.approx(math.exp(entropy))


def test_usage_forgets_what_lies_behind_the_window():
    window = UsageWindow(codebook_size=8, num_positions=2)
    window.count(torch.tensor([[7, 7]]))
    for _ in range(USAGE_WINDOW_STEPS - 1):
        window.count(torch.tensor([[0, 0]]))
    assert float(window.usage().used_fraction) == pytest.approx(2 / 8)
    window.count(torch.tensor([[0, 0]]))
    assert float(window.usage().used_fraction) == pytest.approx(1 / 8)
