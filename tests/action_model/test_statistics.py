"""Units of features and of motion."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.testing import assert_close

from laq_model.action_model.motion import scene_motion
from laq_model.concerto_laq import feature_statistics
from laq_model.structures import (
    DISPLACEMENT,
    FREE,
    OCCUPIED,
    SEEN_THROUGH,
)
from moving_box import (
    CHANNELS,
    FEATURE_CHANNELS,
    moving_box,
    rows,
)


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
