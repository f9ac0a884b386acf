import numpy as np
import pytest

from laq_model.simulation.episode_plan import plan_episodes, states_filmed
from laq_model.simulation.rollout import DETOUR_SHARE, _disturbances


def test_a_plan_does_not_depend_on_what_else_is_made():
    few = plan_episodes(("reach-v3",), episodes_per_task=2, seed=1)
    many = {plan.name: plan for plan in plan_episodes(("push-v3", "reach-v3"), episodes_per_task=50, seed=1)}
    assert [plan.name for plan in few] == ["reach-000", "reach-001"]
    assert all(many[plan.name] == plan for plan in few)
    assert len({plan.seed for plan in many.values()}) == 100
    assert plan_episodes(("reach-v3",), episodes_per_task=1, seed=2)[0].seed != few[0].seed


def test_each_view_has_its_own_camera():
    plan = plan_episodes(("reach-v3",), episodes_per_task=1, seed=1)[0]
    fixed, moving, still = (
        plan.camera_path(view, attempt=0, num_frames=12, size=64) for view in ("fixed", "moving", "still")
    )
    assert fixed.move == "fixed"
    assert np.ptp(fixed.cam_from_world, axis=0).max() == 0
    for path in (moving, still):
        assert path.move in ("orbit", "handheld", "dolly")
        assert np.ptp(path.cam_from_world, axis=0).max() > 0.01
    other = plan.camera_path("fixed", attempt=1, num_frames=12, size=64)
    assert np.abs(other.cam_from_world[0] - fixed.cam_from_world[0]).max() > 0.01
    assert np.abs(moving.cam_from_world[0] - still.cam_from_world[0]).max() > 0.01


def test_a_still_view_films_the_middle_state():
    assert states_filmed("still", 5) == [2, 2, 2, 2, 2]
    assert states_filmed("moving", 3) == [0, 1, 2]


def test_detours_take_their_share_in_stretches():
    is_detour, noise = _disturbances(np.random.default_rng(0), 1000)
    assert is_detour.mean() == pytest.approx(DETOUR_SHARE, abs=0.01)
    # In stretches, not step by step: 1000 independent draws would switch about 480 times.
    assert np.abs(np.diff(is_detour.astype(int))).sum() < 120
    assert noise.shape == (1000, 4)
