"""Which code follows which, against what chance gives."""

import torch
from test_code_groups import coded, pair

from laq_model.report.code_groups import CodedPairs
from laq_model.report.transitions import Transition, followers, transition_table, transitions_at


def test_the_follower_begins_where_the_pair_has_ended():
    names = [pair("a", start) for start in (0, 3, 6, 9)]
    assert followers(names) == [(0, 2), (1, 3)]  # 3 to 8: the next start is 9


def test_what_starts_much_later_or_in_another_video_follows_nothing():
    assert followers([pair("a", 0), pair("a", 9)]) == [(0, 1)]
    assert followers([pair("a", 0), pair("a", 10)]) == []
    assert followers([pair("a", 0), pair("b", 5)]) == []


def test_order_of_rows_does_not_matter():
    names = [pair("a", 10), pair("a", 0), pair("a", 5)]
    assert sorted(followers(names)) == [(1, 2), (2, 0)]


CHAIN = coded([("a", 5 * place, (code, 7)) for place, code in enumerate([1, 2, 1, 2, 3])])


def test_transitions_are_counted_beside_what_chance_gives():
    found = transitions_at(CHAIN, followers(CHAIN.names), position=0)
    # First codes 1 2 1 2, followers 2 1 2 3: 1 → 2 would come 2 · 2 / 4 times, the others 2 · 1 / 4.
    assert found == [
        Transition(0, 1, 2, 2, 1.0),
        Transition(0, 2, 1, 1, 0.5),
        Transition(0, 2, 3, 1, 0.5),
    ]


def test_the_table_says_how_often_a_token_stays_then_its_changes():
    table = transition_table(CHAIN)
    assert [(row.name, *row.cells) for row in table.rows] == [
        # By chance 1 would follow 1 in 2 · 1 / 4 of the cases, and 2 follow 2 in 2 · 2 / 4.
        ("token 0: the same code again", "0", "1.5"),
        ("token 0: 1 → 2", "2", "1.0"),
        ("token 1: the same code again", "4", "4.0"),
    ]
    assert "4 times" in table.caption


def test_without_followers_there_is_no_table():
    assert transition_table(CodedPairs([pair("a", 0)], torch.zeros(1, 2, dtype=torch.long), 8)) is None
