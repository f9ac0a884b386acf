"""Copy ratio and masked means, by hand."""

import pytest
import torch

from laq_model.metrics.prediction import copy_ratio, masked_mean_per_pair


def test_masked_mean_ignores_what_does_not_count():
    value = torch.tensor([[1.0, 3.0, 100.0], [7.0, 7.0, 7.0]])
    is_counted = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean_per_pair(value, is_counted).tolist() == [2.0, 0.0]


def test_copy_ratio_sums_before_it_divides():
    # The still second pair (copy error 0.01) would make a mean of ratios 2.625.
    assert copy_ratio(torch.tensor([0.25, 0.05]), torch.tensor([1.0, 0.01])) == pytest.approx(0.30 / 1.01)


def test_copy_ratio_of_a_still_world_is_refused():
    with pytest.raises(ValueError, match="copying has no error"):
        copy_ratio(torch.tensor([0.1]), torch.tensor([0.0]))
