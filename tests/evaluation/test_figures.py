"""Figures of codes, by hand."""

import pytest
import torch

from laq_model.evaluation.coded_pairs import GROUPS, CodedPairs
from laq_model.evaluation.figures import (
    agreement_figures,
    code_figures,
    prediction_figures,
    standstill_figures,
)
from laq_model.known_actions.actions import TrueActions
from recorded_folder import pair


def coded(codes: list[list[int]], *, standstill: list[list[int]] | None = None, error=None, copying=None):
    count = len(codes)
    rest = torch.zeros(count, len(GROUPS))
    return CodedPairs(
        codes=torch.tensor(codes),
        embedding=torch.zeros(count, 2),
        continuous=torch.zeros(count, 2),
        standstill_codes=torch.tensor(standstill or codes),
        error=rest if error is None else torch.tensor(error),
        copy_error=rest if copying is None else torch.tensor(copying),
    )


def test_copy_ratios_by_group_and_by_size_of_motion():
    # Columns: all, changed, others, network, geometry. The last pair is not held out.
    error = [[1.0, 2, 0, 1, 1], [2, 2, 2, 1, 1], [3, 4, 2, 1, 1], [9, 9, 9, 9, 9]]
    copying = [[1.0, 4, 0, 2, 1], [4, 4, 4, 2, 1], [5, 8, 4, 2, 1], [9, 9, 9, 9, 9]]
    pairs = coded([[0]] * 4, error=error, copying=copying)
    motion = torch.tensor([0.01, 0.09, 0.05, 7.0])
    figures = prediction_figures(pairs, torch.tensor([True, True, True, False]), motion)
    assert figures["copy_ratio_hard"] == pytest.approx(0.6)  # 6 / 10
    assert figures["copy_ratio_hard.changed"] == pytest.approx(0.5)  # 8 / 16
    assert figures["copy_ratio_hard.network"] == pytest.approx(0.5)
    assert figures["copy_ratio_hard.geometry"] == pytest.approx(1.0)
    assert figures["copy_ratio_hard.motion_small"] == pytest.approx(1.0)
    assert figures["copy_ratio_hard.motion_medium"] == pytest.approx(0.6)
    assert figures["copy_ratio_hard.motion_large"] == pytest.approx(0.5)
    assert figures["motion_large.mean"] == pytest.approx(0.09)


def test_a_group_in_which_nothing_changes_has_no_ratio():
    pairs = coded([[0]], error=[[1.0, 1, 1, 1, 1]], copying=[[1.0, 1, 0, 1, 1]])
    figures = prediction_figures(pairs, torch.tensor([True]), torch.tensor([1.0]))
    assert "copy_ratio_hard.others" not in figures
    assert "copy_ratio_hard.motion_large" not in figures  # one pair fills one third only


def test_entropy_is_in_bits():
    figures = code_figures(torch.tensor([[0, 1], [1, 1], [2, 1], [3, 1]]), codebook_size=8)
    assert figures["codes.entropy_bits.0"] == pytest.approx(2)
    assert figures["codes.entropy_bits.1"] == pytest.approx(0)
    assert figures["codes.perplexity.0"] == pytest.approx(4)
    assert figures["codes.used_fraction"] == pytest.approx(0.5)
    assert figures["codes.joint_count"] == 4
    assert figures["codes.joint_entropy_bits"] == pytest.approx(2)
    assert figures["codes.identical_token_fraction"] == pytest.approx(0.25)


def test_agreement_compares_the_same_moment_of_the_same_episode():
    names = [pair(f"videos/{view}/e.webm", i, i + 5) for view in ("fixed", "moving") for i in range(2)]
    names.append(pair("videos/moving/other.webm", 0, 5))
    truth = TrueActions(["e"] * 4 + ["other"], ["fixed", "fixed", "moving", "moving", "moving"])
    codes = torch.tensor([[1, 2], [3, 4], [1, 2], [3, 5], [7, 7]])
    figures = agreement_figures(codes, names, truth, torch.ones(5, dtype=torch.bool))
    assert figures["agreement.num_pairs"] == 2
    assert figures["agreement.same_code_fraction"] == pytest.approx(3 / 4)
    assert figures["agreement.same_pair_fraction"] == pytest.approx(1 / 2)
    assert figures["control.other_moment.agreement.same_code_fraction"] == 0
    held_out = torch.tensor([True, False, True, True, True])
    assert agreement_figures(codes, names, truth, held_out)["agreement.same_code_fraction"] == 1
    assert agreement_figures(codes[:2], names[:2], truth, held_out[:2]) == {}


def test_standing_still_is_what_most_still_pairs_get():
    pairs = coded(
        [[1, 1], [1, 1], [1, 2], [1, 1], [5, 5], [7, 7]],
        standstill=[[1, 2], [1, 2], [1, 2], [0, 0], [9, 9]],
    )
    truth = TrueActions(["e"] * 6, ["still", "still", "still", "fixed", "fixed", "still"])
    figures = standstill_figures(pairs, truth, torch.tensor([True] * 5 + [False]))
    assert figures["standstill.identical_frames_fraction"] == pytest.approx(3 / 5)
    assert figures["standstill.still_pairs_fraction"] == pytest.approx(2 / 3)
    assert figures["standstill.same_token_fraction"] == pytest.approx(1 / 2)
    assert figures["standstill.acting_pairs_fraction"] == pytest.approx(1 / 2)


def test_without_still_pairs_it_is_what_a_frame_with_itself_gets():
    pairs = coded([[1, 2], [5, 5]], standstill=[[1, 2], [1, 2], [9, 9]])
    figures = standstill_figures(
        pairs, TrueActions(["e"] * 2, ["fixed"] * 2), torch.ones(2, dtype=torch.bool)
    )
    assert figures == {
        "standstill.identical_frames_fraction": pytest.approx(2 / 3),
        "standstill.acting_pairs_fraction": pytest.approx(1 / 2),
    }
