"""What the action model refuses, in one line."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from laq_model.action_model.motion import MOTION_CHANNELS
from laq_model.concerto_laq import ConcertoLAQ, feature_statistics
from laq_model.errors import ConfigError
from moving_box import (
    CHANNELS,
    SMALL,
    build,
    moving_box,
)


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
