"""The split by video and the draw of pairs: pure functions of names and numbers."""

from collections import Counter

import pytest

from laq_model.video.pairs import PairPlan, seeded_choice, split_videos


def test_a_video_stays_on_its_side_when_others_come():
    names = [f"clip{n:04d}.webm" for n in range(2000)]
    train, held_out = split_videos(names, 0.1)
    assert train | held_out == set(names)
    assert not train & held_out
    assert 150 < len(held_out) < 250
    few_train, few_held_out = split_videos(names[:300], 0.1)
    assert few_train <= train
    assert few_held_out <= held_out


def test_the_split_is_the_same_on_every_machine():
    """The SHA-256 of these names begins with c1, e1, 1c and 06: at 0.76, 0.88, 0.11 and 0.03 of the range."""
    names = ["a.webm", "b.webm", "c.webm", "d.webm"]
    assert split_videos(names, 0.05)[1] == {"d.webm"}
    assert split_videos(names, 0.3)[1] == {"c.webm", "d.webm"}
    assert split_videos(names, 0.8)[1] == {"a.webm", "c.webm", "d.webm"}


def test_views_of_an_episode_share_a_side():
    names = [f"videos/{view}/ep{n}.webm" for n in range(60) for view in ("fixed", "moving", "still")]
    train, held_out = split_videos(names, 0.3)
    episodes = [{name.rsplit("/", 1)[1] for name in side} for side in (train, held_out)]
    assert len(episodes[0]) + len(episodes[1]) == 60
    assert len(train) == 3 * len(episodes[0])
    assert 5 < len(episodes[1]) < 35


def test_other_folders_do_not_make_views():
    names = [f"kitchen/{cook}/{n}.mp4" for cook in ("anna", "ben") for n in range(40)]
    held_out = split_videos(names, 0.5)[1]
    by_cook = [{name.rsplit("/", 1)[1] for name in held_out if cook in name} for cook in ("anna", "ben")]
    assert by_cook[0] != by_cook[1]


@pytest.mark.parametrize("fraction", [1e-9, 0.5, 1 - 1e-9])
def test_two_videos_give_one_to_each_side(fraction):
    for n in range(50):
        train, held_out = split_videos([f"a{n}.webm", f"b{n}.webm"], fraction)
        assert (len(train), len(held_out)) == (1, 1)


def test_a_single_episode_is_for_training():
    names = ["videos/fixed/only.webm", "videos/moving/only.webm"]
    assert split_videos(names, 0.9) == (frozenset(names), frozenset())
    assert split_videos([], 0.5) == (frozenset(), frozenset())


def test_the_order_of_names_is_irrelevant():
    names = [f"{n}.webm" for n in range(30)]
    assert split_videos(names, 0.2) == split_videos(reversed(names), 0.2)


def test_every_start_is_in_exactly_one_stretch():
    plan = PairPlan([7, 1, 10], stretch=3)
    assert len(plan) == 3 + 1 + 4
    drawn = {
        (video, start)
        for index in range(8)
        for epoch in range(200)
        for video, start in [plan.draw(index, seed=5, epoch=epoch)]
    }
    assert drawn == {(0, n) for n in range(7)} | {(1, 0)} | {(2, n) for n in range(10)}
    for epoch in range(20):
        starts = [plan.draw(index, seed=5, epoch=epoch) for index in range(8)]
        assert [(video, start // 3) for video, start in starts] == [
            (0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3),
        ]  # fmt: skip


def test_stretches_of_one_list_every_pair_in_order():
    plan = PairPlan([2, 3], stretch=1)
    drawn = [plan.draw(index, seed=9, epoch=4) for index in range(5)]
    assert drawn == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize("index", [-1, 5])
def test_no_pair_outside_the_plan(index):
    with pytest.raises(IndexError, match=f"there are 5 pairs, so no pair {index}"):
        PairPlan([2, 3], stretch=1).draw(index, seed=0, epoch=0)


def test_the_draw_depends_on_seed_epoch_and_index_only():
    plan = PairPlan([1000], stretch=1000)
    first = plan.draw(0, seed=1, epoch=2)
    assert plan.draw(0, seed=1, epoch=2) == first
    assert plan.draw(0, seed=2, epoch=2) != first
    assert plan.draw(0, seed=1, epoch=3) != first
    assert seeded_choice(1000, seed=1, epoch=2, index=0) == first[1]


def test_the_draw_is_even():
    counts = Counter(seeded_choice(5, seed=0, epoch=epoch, index=7) for epoch in range(5000))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert all(abs(count - 1000) < 120 for count in counts.values())  # four standard deviations are 113


def test_the_draw_is_pinned():
    """BLAKE2b of "1:2:3" in eight bytes, modulo 1000: another Python or numpy must give the same pairs."""
    assert seeded_choice(1000, seed=1, epoch=2, index=3) == 436
