"""Statistics gathered piece by piece are those of the whole."""

import numpy as np
import pytest

from laq_model.lerobot.statistics import FeatureStatistics


def test_by_hand():
    statistics = FeatureStatistics()
    statistics.add(np.array([[1, -1], [3, -1]]))
    statistics.add(np.zeros((0, 2), int))
    statistics.add(np.array([[5, 2]]))
    found = statistics.as_json()
    assert found["min"] == [1, -1]
    assert found["max"] == [5, 2]
    assert found["mean"] == pytest.approx([3, 0])
    assert found["std"] == pytest.approx([(8 / 3) ** 0.5, 2**0.5])
    assert found["q50"] == [3, -1]
    assert found["q90"] == pytest.approx([4.6, 1.4])
    assert found["count"] == [3]
    assert list(found) == ["min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99", "count"]


def test_pieces_do_not_matter_even_far_from_zero():
    values = 1e6 + np.random.default_rng(0).normal(size=(1000, 3))
    statistics = FeatureStatistics()
    for piece in np.array_split(values, 7):
        statistics.add(piece)
    found = statistics.as_json()
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["std"], values.std(0), rtol=1e-6)
    assert found["q10"] == np.quantile(values, 0.1, axis=0).tolist()


def test_quantiles_may_be_of_every_nth_row():
    statistics = FeatureStatistics(quantile_every=3)
    values = np.arange(10.0)[:, None]
    for piece in (values[:2], values[2:3], values[3:8], values[8:]):
        statistics.add(piece)
    # Rows 0, 3, 6, 9.
    assert statistics.as_json()["q50"] == [4.5]
    assert statistics.as_json()["max"] == [9]
    assert statistics.as_json()["count"] == [10]
