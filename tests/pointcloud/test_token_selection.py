"""Which places of a pair are read."""

from __future__ import annotations

import pointcloud_twins as twins
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laq_model.errors import ConfigError, GeometryError
from laq_model.pointcloud.cell_hash import cell_hash
from laq_model.pointcloud.cell_pooling import CellTokens
from laq_model.pointcloud.token_selection import select_tokens
from laq_model.structures import FREE, GEOMETRY_CHANNELS, OCCUPIED, SEEN_THROUGH, UNKNOWN, PairTokens


def random_pairs(seed: int = 0, scenes: int = 3, cells: int = 40) -> tuple[CellTokens, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    place = torch.stack([torch.randperm(1000, generator=generator)[:cells] for _ in range(scenes)])
    grid = torch.stack([place // 100, place // 10 % 10, place % 10], dim=-1)
    state = torch.randint(0, 3, (scenes, 2, cells), generator=generator)
    is_valid = torch.arange(cells) < torch.randint(cells // 2, cells + 1, (scenes, 1), generator=generator)
    state = torch.where(is_valid[:, None], state, UNKNOWN)
    feat = (
        torch.randn(scenes, 2, cells, 4 + GEOMETRY_CHANNELS, generator=generator)
        * (state == OCCUPIED)[..., None]
    )
    feat[..., SEEN_THROUGH] = feat[..., SEEN_THROUGH].abs().clamp(max=1) * (feat[..., 0] > 0)
    centre_m = -2 + (grid + 0.5) * 0.4
    return CellTokens(feat, state == OCCUPIED, centre_m * is_valid[..., None], is_valid), state


def select(cells: CellTokens, state: torch.Tensor, max_tokens: int, changed_share: float = 0.5) -> PairTokens:
    return select_tokens(
        cells, state=state, half_extent_m=2.0, max_tokens=max_tokens, changed_share=changed_share
    )


def small_pair(*states: tuple[int, int]) -> tuple[CellTokens, torch.Tensor]:
    """One scene of equal cells in a row; feature 0 is the cell's number."""
    cells = len(states)
    state = torch.tensor(states).T[None]
    feat = torch.zeros(1, 2, cells, 1 + GEOMETRY_CHANNELS)
    feat[..., 0] = torch.arange(float(cells))
    centre_m = torch.zeros(1, cells, 3)
    centre_m[0, :, 0] = torch.arange(cells) * 0.1 - 1
    return CellTokens(feat, state == OCCUPIED, centre_m, torch.ones(1, cells, dtype=torch.bool)), state


def numbers(tokens: PairTokens) -> list[int]:
    return tokens.feat[0, 0, tokens.is_valid[0], 0].long().tolist()


@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_equals_a_plain_loop(seed, max_tokens, changed_share):
    cells, state = random_pairs(seed)
    tokens = select(cells, state, max_tokens, changed_share)
    for scene in range(3):
        hashes = cell_hash(((cells.centre_m[scene].double() / 2 + 2) / 4 * 2**17).round().long()).tolist()
        expected = twins.select_tokens(
            cells.feat[scene, ..., -GEOMETRY_CHANNELS:],
            state[scene].tolist(),
            cells.is_valid[scene].tolist(),
            hashes,
            max_tokens=max_tokens,
            changed_share=changed_share,
        )
        count = len(expected)
        assert tokens.is_valid[scene].tolist() == [True] * count + [False] * (max_tokens - count)
        assert torch.equal(tokens.feat[scene, :, :count], cells.feat[scene][:, expected])
        assert torch.equal(tokens.state[scene, :, :count], state[scene][:, expected])
        assert torch.equal(tokens.position[scene, :count], cells.centre_m[scene][expected] / 2)
        assert tokens.feat[scene, :, count:].eq(0).all()
        assert tokens.state[scene, :, count:].eq(UNKNOWN).all()


def test_convention_position_is_the_centre_in_the_box_from_minus_one_to_one():
    cells, state = small_pair((OCCUPIED, OCCUPIED))
    cells.centre_m[0, 0] = torch.tensor([-1.5, 0.5, 2.0])
    assert select(cells, state, 2).position.tolist() == [[[-0.75, 0.25, 1.0], [0.0, 0.0, 0.0]]]


def test_what_was_seen_through_comes_first_then_difference_of_geometry():
    cells, state = small_pair(
        (OCCUPIED, OCCUPIED), (OCCUPIED, OCCUPIED), (OCCUPIED, FREE), (OCCUPIED, OCCUPIED)
    )
    cells.feat[0, 0, 2, SEEN_THROUGH] = 0.6
    cells.feat[0, 1, 0, -1] += 0.1
    cells.feat[0, 1, 3, -1] += 5.0
    assert numbers(select(cells, state, 3, changed_share=1.0)) == [2, 3, 0]


def test_what_comes_into_or_out_of_view_does_not_count_as_change():
    cells, state = small_pair((UNKNOWN, OCCUPIED), (OCCUPIED, UNKNOWN), (OCCUPIED, OCCUPIED))
    cells.feat[0, 1, :2, -1] += 100.0
    cells.feat[0, 1, 2, -1] += 0.01
    assert numbers(select(cells, state, 1, changed_share=1.0)) == [2]


def test_changed_places_take_no_more_than_their_share():
    cells, state = small_pair(*[(FREE, OCCUPIED)] * 6, *[(OCCUPIED, OCCUPIED)] * 4)
    cells.feat[0, 1, :6, SEEN_THROUGH] = 1.0
    chosen = numbers(select(cells, state, 6, changed_share=0.5))
    assert chosen[:3] == [0, 1, 2]  # equal scores: by cell order
    assert set(chosen[3:]) < {6, 7, 8, 9}  # then the current frame


def test_places_free_in_both_frames_come_before_the_current_frame():
    cells, state = small_pair(*[(OCCUPIED, OCCUPIED)] * 5, (UNKNOWN, OCCUPIED), (FREE, FREE))
    chosen = numbers(select(cells, state, 7))
    assert chosen[0] == 6
    assert chosen[-1] == 5


def test_a_static_pair_is_spread_over_the_current_frame():
    cells, state = small_pair(*[(OCCUPIED, OCCUPIED)] * 100)
    chosen = numbers(select(cells, state, 20))
    assert len(set(chosen)) == 20
    assert 2 < sum(number < 50 for number in chosen) < 18


def test_the_same_place_is_chosen_from_any_list_of_cells():
    cells, state = small_pair(*[(OCCUPIED, OCCUPIED)] * 50)
    chosen = numbers(select(cells, state, 10))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    shuffled = CellTokens(
        cells.feat[:, :, order],
        cells.is_occupied[:, :, order],
        cells.centre_m[:, order],
        cells.is_valid[:, order],
    )
    assert numbers(select(shuffled, state[:, :, order], 10)) == chosen


def test_batch_neighbours_and_padding_change_nothing():
    cells, state = random_pairs(7)
    together = select(cells, state, 16)
    count = int(cells.is_valid[1].sum())
    own = CellTokens(
        cells.feat[1:2, :, :count],
        cells.is_occupied[1:2, :, :count],
        cells.centre_m[1:2, :count],
        cells.is_valid[1:2, :count],
    )
    alone = select(own, state[1:2, :, :count], 16)
    for name in ("feat", "state", "position", "is_valid"):
        assert torch.equal(getattr(together, name)[1], getattr(alone, name)[0])


def test_no_cells_give_padding_only():
    cells, state = small_pair((OCCUPIED, OCCUPIED))
    none = CellTokens(
        cells.feat[:, :, :0], cells.is_occupied[:, :, :0], cells.centre_m[:, :0], cells.is_valid[:, :0]
    )
    tokens = select(none, state[:, :, :0], 4)
    assert tokens.feat.shape == (1, 2, 4, 1 + GEOMETRY_CHANNELS)
    assert not tokens.is_valid.any()


def test_impossible_settings_are_refused():
    cells, state = small_pair((OCCUPIED, OCCUPIED))
    with pytest.raises(ConfigError, match="max_tokens must be at least 1, got 0"):
        select(cells, state, 0)
    with pytest.raises(ConfigError, match=r"changed_share must be from 0 to 1, got 1.5"):
        select(cells, state, 4, changed_share=1.5)


def test_anything_but_two_views_is_refused():
    cells, state = small_pair((OCCUPIED, OCCUPIED))
    three = CellTokens(cells.feat[:, :1], cells.is_occupied[:, :1], cells.centre_m, cells.is_valid)
    with pytest.raises(GeometryError, match="a pair has two views, got 1"):
        select(three, state, 4)
