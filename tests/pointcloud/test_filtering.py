"""Which pixels become points."""

from __future__ import annotations

import math

import pointcloud_twins as twins
import pytest
import torch

from laq_model.errors import ConfigError
from laq_model.pointcloud.filtering import keep_points


def kept(depth: list[list[float]], confidence: list[list[float]] | None = None, percentile: float = 0.0):
    image = torch.tensor(depth)
    sure = torch.ones_like(image) if confidence is None else torch.tensor(confidence)
    return keep_points(image, sure, confidence_percentile=percentile, depth_edge_ratio=0.1).int().tolist()


def test_convention_depth_that_is_not_finite_and_positive_is_none():
    assert kept([[1.0, 0.0, -1.0, math.nan, math.inf, 1.0]]) == [[1, 0, 0, 0, 0, 1]]


def test_percentile_drops_the_least_sure():
    assert kept([[1.0] * 5], [[5.0, 1.0, 2.0, 4.0, 3.0]], percentile=40.0) == [[1, 0, 0, 1, 1]]


def test_percentile_counts_only_pixels_with_depth():
    # Of the two pixels with depth half is dropped; sureness where there is no depth does not matter.
    assert kept([[0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 2.0, 3.0]], percentile=50.0) == [[0, 0, 0, 1]]


def test_equal_confidence_keeps_all():
    assert kept([[1.0, 1.0, 1.0]], [[7.0, 7.0, 7.0]], percentile=99.0) == [[1, 1, 1]]


def test_zero_percentile_keeps_all():
    assert kept([[1.0, 1.0, 1.0]], [[-5.0, 0.0, 7.0]]) == [[1, 1, 1]]


def test_both_sides_of_a_depth_edge_are_dropped():
    assert kept([[1.0, 1.0, 1.2, 1.2]]) == [[1, 0, 0, 1]]
    assert kept([[1.0], [1.0], [1.2], [1.2]]) == [[1], [0], [0], [1]]


def test_a_gentle_slope_and_a_hole_are_no_edge():
    assert kept([[1.0, 1.09, 1.18, 0.0, 5.0]]) == [[1, 1, 1, 0, 1]]


def test_equals_a_plain_loop_in_every_view():
    generator = torch.Generator().manual_seed(0)
    depth = 1 + 0.2 * torch.rand(2, 3, 6, 7, generator=generator)
    depth[torch.rand(2, 3, 6, 7, generator=generator) < 0.1] = 0
    confidence = torch.randint(1, 20, (2, 3, 6, 7), generator=generator).float()
    mask = keep_points(depth, confidence, confidence_percentile=25.0, depth_edge_ratio=0.12)
    for scene in range(2):
        for view in range(3):
            expected = twins.keep_points(
                depth[scene, view], confidence[scene, view], confidence_percentile=25.0, depth_edge_ratio=0.12
            )
            assert torch.equal(mask[scene, view], expected)
    assert 0.1 < mask.float().mean() < 0.9


@pytest.mark.parametrize("percentile", [-1.0, 100.0])
def test_impossible_percentile_is_refused(percentile):
    with pytest.raises(ConfigError, match=r"confidence_percentile must be from 0 to below 100, got"):
        kept([[1.0]], percentile=percentile)


def test_impossible_edge_ratio_is_refused():
    with pytest.raises(ConfigError, match=r"depth_edge_ratio must be positive, got 0.0"):
        keep_points(torch.ones(2, 2), torch.ones(2, 2), confidence_percentile=0.0, depth_edge_ratio=0.0)
