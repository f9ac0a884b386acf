"""Probes find what is there, find nothing where nothing is, and keep train and test apart."""

import pytest
import torch
from torch.testing import assert_close

from laq_model.metrics.probes import mlp_probe, r2_per_dimension, ridge_probe


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_r2_by_hand():
    target = torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    guess = torch.tensor([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0]])
    r2 = r2_per_dimension(guess, target)
    assert float(r2[0]) == pytest.approx(0.5)  # residual 1, variance 2
    assert r2[1].isnan()  # a constant has no variance to explain


def test_ridge_reads_a_linear_map_in_the_target_s_units():
    x, weights = normal(300, 6, seed=0), normal(6, 2, seed=1)
    y = 1000 + 50 * x @ weights
    result = ridge_probe(x[:200], y[:200], x[200:], y[200:])
    assert min(result.r2) > 0.9999
    assert_close(result.prediction, y[200:], rtol=0, atol=0.5)


def test_ridge_does_not_mind_the_scale_of_its_inputs():
    x, noise = normal(300, 6, seed=0), normal(300, 1, seed=2)
    y = x[:, :1] + noise
    scale = torch.tensor([1e-3, 1.0, 1e3, 1.0, 1.0, 1e-2])
    plain = ridge_probe(x[:200], y[:200], x[200:], y[200:])
    scaled = ridge_probe(x[:200] * scale, y[:200], x[200:] * scale, y[200:])
    assert scaled.r2 == pytest.approx(plain.r2, abs=1e-4)


def test_ridge_finds_nothing_in_noise_even_with_more_inputs_than_rows():
    x, y = normal(150, 200, seed=0), normal(150, 1, seed=1)
    assert -0.2 < ridge_probe(x[:100], y[:100], x[100:], y[100:]).r2_mean < 0.1


def test_ridge_with_a_constant_input_is_finite():
    x = torch.cat([normal(60, 2, seed=0), torch.ones(60, 1)], dim=1)
    assert ridge_probe(x[:40], x[:40, :1], x[40:], x[40:, :1]).r2_mean > 0.99


def test_inner_split_keeps_groups_whole():
    # Each group has its own level, and inputs that name the group: within a group more strength only hurts,
    # between groups it saves. Rows split at random would choose the weakest ridge; whole groups choose a
    # stronger one.
    group_code, level = normal(20, 40, seed=0), normal(20, 1, seed=1)
    x, y = group_code.repeat_interleave(10, 0), level.repeat_interleave(10, 0)
    names = [f"episode{i}" for i in range(20) for _ in range(10)]
    x = x + 0.01 * normal(200, 40, seed=2)
    x_new, y_new = normal(50, 40, seed=3), normal(50, 1, seed=4)
    whole = ridge_probe(x, y, x_new, y_new, groups=names)
    rows = ridge_probe(x, y, x_new, y_new)
    assert whole.r2_mean > rows.r2_mean + 0.05


def test_groups_are_checked():
    x, y = normal(10, 2, seed=0), normal(10, 1, seed=1)
    with pytest.raises(ValueError, match="9 group names for 10 training rows"):
        ridge_probe(x, y, x, y, groups=["a"] * 9)
    with pytest.raises(ValueError, match="at least 2 training groups"):
        ridge_probe(x, y, x, y, groups=["a"] * 10)


def test_mlp_reads_what_a_line_cannot():
    x = normal(600, 3, seed=0)
    y = x[:, :1].abs()
    parts = (x[:400], y[:400], x[400:], y[400:])
    assert ridge_probe(*parts).r2_mean < 0.1
    assert mlp_probe(*parts).r2_mean > 0.8


def test_mlp_finds_nothing_in_noise_and_says_the_mean():
    x, y = normal(300, 64, seed=0), 7 + normal(300, 2, seed=1)
    names = [f"episode{i // 20}" for i in range(200)]
    result = mlp_probe(x[:200], y[:200], x[200:], y[200:], groups=names)
    assert -0.15 < result.r2_mean < 0.05  # trained to the end, it falls below -0.5
    assert (result.prediction.mean(0) - 7).abs().max() < 0.4


def test_mlp_s_inner_split_keeps_groups_whole():
    with pytest.raises(ValueError, match="at least 2 training groups"):
        mlp_probe(
            normal(10, 2, seed=0),
            normal(10, 1, seed=1),
            *[torch.zeros(2, 2), torch.zeros(2, 1)],
            groups=["a"] * 10,
        )
    # Inputs that name the group: whole groups show that nothing carries over to others, so it stops early.
    code, level = normal(12, 30, seed=0), normal(12, 1, seed=1)
    x, y = code.repeat_interleave(10, 0), level.repeat_interleave(10, 0)
    names = [f"episode{i // 10}" for i in range(120)]
    x_new, y_new = normal(200, 30, seed=3), normal(200, 1, seed=4)
    whole, rows = mlp_probe(x, y, x_new, y_new, groups=names), mlp_probe(x, y, x_new, y_new)
    assert whole.r2_mean > rows.r2_mean + 0.1


def test_mlp_repeats_itself_and_leaves_the_global_generator_alone():
    x = normal(80, 3, seed=0)
    y = torch.cat([x[:, :1].abs(), x[:, 1:2] * x[:, 2:]], dim=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = mlp_probe(x[:60], y[:60], x[60:], y[60:], seed=1)
    assert torch.equal(torch.rand(3), expected)
    again = mlp_probe(x[:60], y[:60], x[60:], y[60:], seed=1)
    other = mlp_probe(x[:60], y[:60], x[60:], y[60:], seed=2)
    assert torch.equal(first.prediction, again.prediction)
    assert not torch.equal(first.prediction, other.prediction)


@pytest.mark.parametrize("probe", [ridge_probe, mlp_probe])
def test_columns_that_never_vary_change_nothing(probe):
    x, y = torch.randn(80, 4, generator=torch.Generator().manual_seed(3)), torch.zeros(80, 2)
    y[:, 0], y[:, 1] = x[:, 0] + 0.5 * x[:, 1], x[:, 2]
    padded = torch.cat([torch.ones(80, 3), x, torch.zeros(80, 5)], dim=1)
    plain = probe(x[:60], y[:60], x[60:], y[60:])
    assert plain.r2_mean > 0.5
    assert_close(probe(padded[:60], y[:60], padded[60:], y[60:]).prediction, plain.prediction)


@pytest.mark.parametrize("probe", [ridge_probe, mlp_probe])
def test_constant_inputs_tell_the_mean(probe):
    x, y = torch.ones(40, 3), torch.randn(40, 2, generator=torch.Generator().manual_seed(4))
    found = probe(x[:30], y[:30], x[30:], y[30:])
    assert_close(found.prediction, y[:30].mean(0).expand(10, -1))
