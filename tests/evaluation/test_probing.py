"""Probes of representations whose worth is known."""

import torch

from laq_model.evaluation.probing import KINDS, Rows, Split, probe_figures, scopes_of, split_episodes
from laq_model.known_actions.actions import Target

EPISODES = [f"e{number}" for number in range(8) for _ in range(40)]
EVERYTHING = Rows(torch.ones(320, dtype=torch.bool), torch.ones(320, dtype=torch.bool))


def motion(seed: int = 0) -> Target:
    return Target(torch.randn(320, 3, generator=torch.Generator().manual_seed(seed)), ("x", "y", "z"))


def figures(
    x: torch.Tensor, target: Target, rows: Rows = EVERYTHING, *, seeds: int = 2, kinds: tuple = ("linear",)
) -> dict[str, float]:
    splits = split_episodes(EPISODES, frozenset(), seeds=seeds, seed=0)
    return probe_figures({"": x}, target, rows, name="hand", episode=EPISODES, splits=splits, kinds=kinds)


def test_a_code_that_is_the_action_tells_all_and_a_random_one_nothing():
    target = motion()
    generator = torch.Generator().manual_seed(1)
    turned = target.values @ torch.randn(3, 3, generator=generator) + 5
    told = figures(turned, target, seeds=1, kinds=KINDS)
    assert told["probe.linear.hand.r2_mean"] > 0.999
    assert told["probe.mlp.hand.r2_mean"] > 0.95  # 400 steps of noise-free regression
    guessed = figures(torch.randn(320, 8, generator=generator), target, seeds=1, kinds=KINDS)
    assert -0.15 < guessed["probe.linear.hand.r2_mean"] < 0.05
    assert guessed["probe.mlp.hand.r2_mean"] < 0.05


def test_figures_are_per_dimension_with_their_spread():
    target = motion()
    only_x = target.values[:, :1].clone()
    told = figures(only_x, target)
    assert told["probe.linear.hand.r2.x"] > 0.999
    assert abs(told["probe.linear.hand.r2.y"]) < 0.1
    mean = sum(told[f"probe.linear.hand.r2.{axis}"] for axis in "xyz") / 3
    assert abs(told["probe.linear.hand.r2_mean"] - mean) < 1e-6
    assert 0 < told["probe.linear.hand.r2_std"] < 0.1
    assert "probe.linear.hand.r2_std" not in figures(only_x, target, seeds=1)


def test_a_dimension_that_never_varies_is_left_out():
    values = motion().values
    values[:, 2] = 0.5
    told = figures(values[:, :2], Target(values, ("x", "y", "z")))
    assert "probe.linear.hand.r2.z" not in told
    assert told["probe.linear.hand.r2_mean"] > 0.999  # of x and y


def test_what_one_camera_turns_round_does_not_transfer():
    target = motion()
    views = ["fixed", "moving"] * 160
    is_moving = torch.tensor([view == "moving" for view in views])
    x = torch.where(is_moving[:, None], -target.values, target.values)
    scopes = scopes_of(views)
    assert set(scopes) == {
        "",
        "view.fixed.",
        "view.moving.",
        "transfer.fixed_to_moving.",
    }
    within = figures(x, target, scopes["view.moving."])["probe.linear.hand.r2_mean"]
    across = figures(x, target, scopes["transfer.fixed_to_moving."])["probe.linear.hand.r2_mean"]
    assert within > 0.999
    assert -3.3 < across < -2.7  # told is -true: 1 - (2y)² / y² = -3


def test_frozen_scenes_are_in_no_scope():
    scopes = scopes_of(["fixed", "still", "fixed"])
    assert list(scopes) == [""]
    assert scopes[""].is_fit_view.tolist() == [True, False, True]
    assert list(scopes_of(["", ""])) == [""]


def test_what_the_model_saw_is_fitted_and_all_else_is_judged():
    episodes = [f"e{number}" for number in range(12)]
    seen = frozenset(episodes[:10])
    splits = split_episodes(episodes, seen, seeds=3, seed=0)
    assert [split.test for split in splits] == [frozenset({"e10", "e11"})] * 3
    assert all(len(split.fit) == 8 and split.fit < seen for split in splits)
    assert splits[0].fit != splits[1].fit
    assert splits == split_episodes(episodes, seen, seeds=3, seed=0)


def test_new_episodes_are_dealt_out_anew_for_each_seed():
    episodes = [f"e{number}" for number in range(10)]
    splits = split_episodes(episodes, frozenset({"other"}), seeds=3, seed=0)
    assert all(split.fit | split.test == set(episodes) and not split.fit & split.test for split in splits)
    assert all(len(split.test) == 3 for split in splits)
    assert len({split.test for split in splits}) > 1


def test_too_few_episodes_give_no_figure_instead_of_a_wrong_one():
    target = motion()
    splits = [Split(frozenset({"e0"}), frozenset({"e1"}), 0)]
    assert (
        probe_figures({"": target.values}, target, EVERYTHING, name="hand", episode=EPISODES, splits=splits)
        == {}
    )
