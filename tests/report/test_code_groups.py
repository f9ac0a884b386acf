"""Groups of pairs that share a code: which are shown, and what their directions are worth."""

import math

import pytest
import torch

from laq_model.feature_store import PairName
from laq_model.report.code_groups import (
    CodedPairs,
    agreement_by_chance,
    apart,
    direction_agreement,
    most_used,
    spread,
)


def pair(video: str, start: int, length: int = 5) -> PairName:
    return PairName(video, start, start + length, start / 10, (start + length) / 10)


def coded(rows: list[tuple[str, int, tuple[int, ...]]]) -> CodedPairs:
    names = [pair(video, start) for video, start, _ in rows]
    return CodedPairs(names, torch.tensor([codes for *_, codes in rows]), codebook_size=8)


PAIRS = coded(
    [
        ("a", 0, (1, 4)),
        ("a", 5, (1, 5)),
        ("a", 10, (2, 4)),
        ("b", 0, (1, 4)),
        ("b", 3, (3, 6)),  # overlaps the one before
        ("b", 5, (3, 6)),
        ("c", 0, (2, 4)),
    ]
)


def test_codes_are_ranked_by_their_pairs_then_by_number():
    found = most_used(PAIRS, position=0, count=5)
    assert [(group.code, group.rows) for group in found] == [((1,), (0, 1, 3)), ((2,), (2, 6))]
    assert [group.position for group in found] == [0, 0]
    assert [group.code for group in most_used(PAIRS, position=1, count=1)] == [(4,)]


def test_a_code_of_moments_that_overlap_is_left_out():
    assert PAIRS.codes[4:6, 0].tolist() == [3, 3]
    assert (3,) not in [group.code for group in most_used(PAIRS, position=0, count=9)]


def test_combinations_are_of_all_tokens():
    found = most_used(PAIRS, position=None, count=9)
    assert [(group.code, group.moments) for group in found] == [((1, 4), (0, 3)), ((2, 4), (2, 6))]


def test_moments_do_not_overlap_and_may_touch():
    names = [pair("a", start) for start in (8, 0, 4, 5, 9, 10)]
    assert [names[row].current_index for row in apart(names, range(6))] == [0, 5, 10]
    assert apart([pair("a", 0), pair("b", 1)], [1, 0]) == [0, 1]


def test_clips_are_spread_over_videos_then_over_time():
    names = [pair(video, 5 * start) for video in "abc" for start in range(4)]
    starts = {row: (name.video, name.current_index) for row, name in enumerate(names)}
    assert [starts[row] for row in spread(names, range(12), 3)] == [("a", 10), ("b", 10), ("c", 10)]
    assert [starts[row][0] for row in spread(names, range(12), 2)] == ["a", "c"]
    assert [starts[row] for row in spread(names, range(12), 4)][:2] == [("a", 5), ("a", 15)]
    assert sorted(spread(names, [0, 5], 6)) == [0, 5]
    assert sorted(spread(names, range(12), 99)) == list(range(12))


def test_a_video_with_few_moments_leaves_its_share_to_the_others():
    names = [pair("a", 0), *(pair("b", 5 * start) for start in range(5))]
    chosen = spread(names, range(6), 4)
    assert [names[row].video for row in chosen] == ["a", "b", "b", "b"]


def test_agreement_is_one_for_one_way_and_zero_where_shifts_cancel():
    along = torch.tensor([[1.0, 0, 0], [3.0, 0, 0]])
    assert direction_agreement(along) == pytest.approx(1)
    assert direction_agreement(torch.cat([along, -along])) == pytest.approx(0)
    # A right angle of equal lengths: √2 of 2.
    assert direction_agreement(torch.eye(3)[:2]) == pytest.approx(math.sqrt(2) / 2)
    assert math.isnan(direction_agreement(torch.zeros(2, 3)))


def test_agreement_by_chance_is_of_pairs_drawn_without_their_codes():
    generator = torch.Generator().manual_seed(0)
    shifts = torch.randn(400, 3, generator=generator)
    # Of n unit vectors that point anywhere, the mean is about 0.92 / √n long (0.92: of a 3D normal's length).
    assert agreement_by_chance(shifts, 25) == pytest.approx(0.2, abs=0.03)
    assert agreement_by_chance(shifts, 400) == pytest.approx(direction_agreement(shifts), abs=1e-5)
    assert agreement_by_chance(shifts, 5) == agreement_by_chance(shifts, 5)
    assert math.isnan(agreement_by_chance(torch.zeros(4, 3), 2))
