"""Training curves: what they say in words, and which lines they draw."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from laq_model.errors import RunError
from laq_model.report.curves import draw_curves

HELD_OUT, TRAINING = (0x00, 0x72, 0xB2), (0x6F, 0x6F, 0x7C)


def rows():
    train = [{"step": s, "kind": "train", "loss": 2.0 - s / 100} for s in range(10, 110, 10)]
    return [*train, *({"step": s, "kind": "held_out", "copy_ratio_hard": 1.2 - s / 200} for s in (50, 100))]


def pixels(picture, colour) -> int:
    levels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"))
    return int((levels == colour).all(axis=-1).sum())


def test_one_picture_for_each_metric_with_its_values_in_words():
    loss, ratio = draw_curves(rows())
    assert loss.alt == "loss over training steps: training from 1.9 to 1"
    assert ratio.alt == "copy ratio hard over training steps: held out from 0.95 to 0.7"


def test_lines_have_the_colour_of_their_kind():
    loss, ratio = draw_curves(rows())
    assert pixels(loss, TRAINING) > 200
    assert pixels(loss, HELD_OUT) == 0
    assert pixels(ratio, HELD_OUT) > 200
    assert pixels(ratio, TRAINING) == 0


def test_metrics_can_be_chosen_and_ordered():
    assert [p.alt.split(" over")[0] for p in draw_curves(rows(), metrics=["copy_ratio_hard", "loss"])] == [
        "copy ratio hard",
        "loss",
    ]


def test_values_that_are_not_finite_leave_a_gap():
    spoilt = rows()
    spoilt[0]["loss"], spoilt[9]["loss"] = math.nan, None
    [loss] = draw_curves(spoilt, metrics=["loss"])
    assert loss.alt.endswith("training from 1.8 to 1.1")


def test_a_metric_without_any_finite_value_says_so():
    [loss] = draw_curves([{"step": 1, "kind": "train", "loss": math.inf}])
    assert loss.alt == "loss over training steps: no finite value"


def test_a_single_value_is_a_dot_not_an_invisible_line():
    [loss] = draw_curves([{"step": 1, "kind": "held_out", "loss": 1.0}])
    assert pixels(loss, HELD_OUT) > 50


def test_a_run_without_metrics_is_refused():
    with pytest.raises(RunError, match="the run has no metrics yet"):
        draw_curves([])


def test_an_unknown_metric_is_named_with_those_there_are():
    with pytest.raises(RunError, match="the run's metrics have no lost; they have loss, copy_ratio_hard"):
        draw_curves(rows(), metrics=["lost"])
