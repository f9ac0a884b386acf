"""Codes whose worth is known, through every figure."""

import math

import pytest
import torch

from laq_model.concerto_laq import ConcertoLAQ
from laq_model.evaluation.coded_pairs import GROUPS, CodedPairs
from laq_model.evaluation.probing import split_episodes
from laq_model.evaluation.study import TRAINED, Study
from laq_model.known_actions.actions import Target, TrueActions
from laq_model.metrics import probes
from recorded_folder import pair
from tiny_training import MODEL

EPISODES, PAIRS_EACH, VIEWS = 10, 12, ("fixed", "moving")
COUNT = EPISODES * PAIRS_EACH * len(VIEWS)
SEEN = frozenset(f"e{number}" for number in range(7))


def coded(codes: torch.Tensor, embedding: torch.Tensor) -> CodedPairs:
    errors = torch.ones(COUNT, len(GROUPS))
    return CodedPairs(
        codes=codes,
        embedding=embedding,
        continuous=embedding,
        standstill_codes=torch.zeros_like(codes),
        error=0.4 * errors,
        copy_error=errors,
    )


@pytest.fixture(scope="module")
def study() -> Study:
    """Two tokens: one says how far the hand goes along x, the other along y; both cameras see the same."""
    generator = torch.Generator().manual_seed(0)
    per_moment = torch.randint(0, 8, (EPISODES * PAIRS_EACH, 2), generator=generator)
    codes = per_moment.repeat_interleave(2, 0)
    displacement = (codes.float() - 3.5) / 100
    places = [
        (episode, moment, view)
        for episode in range(EPISODES)
        for moment in range(PAIRS_EACH)
        for view in VIEWS
    ]
    chance = torch.randint(0, 8, codes.shape, generator=generator)
    noise = torch.randn(COUNT, 6, generator=generator)
    torch.manual_seed(0)
    episode = [f"e{number}" for number, _, _ in places]
    return Study(
        model=ConcertoLAQ(MODEL).eval(),
        names=[pair(f"videos/{view}/e{number}.webm", moment, moment + 5) for number, moment, view in places],
        coded={
            TRAINED: coded(codes, displacement * 7 + 1),
            "random_codes": coded(chance, chance.float()),
        },
        truth=TrueActions(
            episode=episode,
            view=[view for *_, view in places],
            targets={"ee_displacement": Target(displacement, ("x", "y"))},
            camera_motion=Target(noise, tuple("abcdef")),
        ),
        seen=SEEN,
        splits=split_episodes(episode, SEEN, seeds=1, seed=0),
        small_frames=torch.rand(COUNT, 2, 12, generator=generator),
    )


@pytest.fixture(scope="module")
def figures(study) -> dict[str, float]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "MLP_STEPS", 80)  # enough for codes that are the action itself
        return study.figures()


def test_codes_that_are_the_action_tell_all_of_it(figures):
    for scope in ("", "view.fixed.", "view.moving.", "transfer.fixed_to_moving."):
        assert figures[f"{scope}probe.linear.ee_displacement.r2_mean"] > 0.99
        assert figures[f"{scope}probe.linear_onehot.ee_displacement.r2_mean"] > 0.95
        assert figures[f"{scope}probe.mlp.ee_displacement.r2_mean"] > 0.9
    assert figures["transfer.fixed_to_moving.kept.linear"] == pytest.approx(1, abs=0.01)
    assert figures["agreement.same_code_fraction"] == 1
    assert figures["control.other_moment.agreement.same_code_fraction"] < 0.4  # one of eight, by chance


def test_its_controls_tell_nothing(figures):
    for control in ("random_codes", "first_frame", "pixel_difference"):
        assert figures[f"control.{control}.probe.linear.ee_displacement.r2_mean"] < 0.1
        assert figures[f"control.{control}.view.moving.probe.mlp.ee_displacement.r2_mean"] < 0.1


def test_codes_do_not_tell_the_camera_s_noise(figures):
    assert figures["camera.probe.linear.camera_motion.r2_mean"] < 0.05


def test_only_held_out_pairs_are_counted(study, figures):
    assert study.is_held_out.sum() == 3 * PAIRS_EACH * 2
    assert figures["agreement.num_pairs"] == 3 * PAIRS_EACH
    assert figures["copy_ratio_hard"] == pytest.approx(0.4)
    held_out = study.coded[TRAINED].codes[study.is_held_out]
    assert figures["codes.joint_count"] == len(held_out.unique(dim=0))


def test_every_figure_is_finite_and_every_control_has_a_twin(figures):
    assert all(math.isfinite(value) for value in figures.values())
    for key in figures:
        name = key.split(".")
        if name[0] == "control" and name[1] != "other_moment":
            assert ".".join(name[2:]) in figures, key


def test_codes_that_are_always_alike_are_warned_of(study, figures):
    alike = {**figures, "codes.perplexity.0": 1.0}
    assert any("perplexity at token position 0: 1.0" in line for line in study.warnings(alike))


def test_a_prediction_that_does_not_need_the_codes_is_warned_of(study, figures):
    assert not study.warnings({**figures, "control.random_codes.copy_ratio_hard": 0.5})
    found = study.warnings({**figures, "control.random_codes.copy_ratio_hard": 0.41})
    assert "hardly better than with random codes (ratio to copying 0.40, with random codes 0.41)" in found[0]


def test_without_truth_there_are_figures_of_the_codes_alone(study):
    blind = Study(
        model=study.model,
        names=study.names,
        coded={TRAINED: study.coded[TRAINED]},
        truth=TrueActions(study.truth.episode, study.truth.view),
        seen=SEEN,
        splits=study.splits,
    )
    figures = blind.figures()
    assert figures["copy_ratio_hard"] == pytest.approx(0.4)
    assert not any("probe" in key for key in figures)
    assert blind.pictures() == []
