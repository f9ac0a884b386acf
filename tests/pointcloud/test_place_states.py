"""What each frame says of a place, and free places beside what moved."""

from __future__ import annotations

import torch

from laq_model.pointcloud.cell_pooling import CellTokens
from laq_model.pointcloud.place_states import place_states, with_free_places
from laq_model.structures import FREE, GEOMETRY_CHANNELS, OCCUPIED, SEEN_THROUGH, UNKNOWN

CELL_M = 0.1  # twenty cells a side


def cells_at(*places: tuple[int, int, int], occupied: list[tuple[bool, bool]], seen_through: list[float]):
    """One pair; the share is of whichever frame has the points (of both, where both have)."""
    is_occupied = torch.tensor(occupied).T[None]
    feat = torch.zeros(1, 2, len(places), GEOMETRY_CHANNELS)
    feat[..., SEEN_THROUGH] = torch.tensor(seen_through) * is_occupied
    centre = -1 + (torch.tensor(places).float() + 0.5) * CELL_M
    return CellTokens(feat, is_occupied, centre[None], torch.ones(1, len(places), dtype=torch.bool))


def free_places(cells: CellTokens, *, max_places: int = 1000, is_free=None):
    state = place_states(cells)
    return with_free_places(
        cells,
        state,
        is_free=is_free or (lambda centre: torch.ones(centre.shape[:2], dtype=torch.bool)),
        cell_size_m=CELL_M,
        half_extent_m=1.0,
        max_places=max_places,
    )


def test_convention_a_place_is_free_where_most_of_the_other_frame_s_points_are_seen_through():
    cells = cells_at(
        (0, 0, 0),
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
        occupied=[(True, False), (False, True), (True, False), (True, True)],
        seen_through=[0.6, 0.5, 0.4, 1.0],
    )
    current, future = place_states(cells)[0].tolist()
    assert current == [OCCUPIED, FREE, OCCUPIED, OCCUPIED]
    assert future == [FREE, OCCUPIED, UNKNOWN, OCCUPIED]


def test_free_places_lie_within_three_cells_of_what_moved_and_hold_no_points():
    cells = cells_at((10, 10, 10), (11, 10, 10), occupied=[(True, False), (True, True)], seen_through=[1, 0])
    found, state = free_places(cells)
    assert found.is_valid.sum() == 2 + 7**3 - 2  # a cube of seven cells a side, without the two
    place = ((found.centre_m[0, 2:][found.is_valid[0, 2:]] + 1) / CELL_M - 0.5).round().long()
    assert (place - 10).abs().max() == 3
    assert not ((place == torch.tensor([11, 10, 10])).all(1)).any()
    assert len({tuple(row) for row in place.tolist()}) == len(place)
    assert state[:, :, 2:].eq(FREE).all()
    assert found.feat[:, :, 2:].eq(0).all()
    assert not found.is_occupied[:, :, 2:].any()


def test_nothing_moved_means_no_free_places():
    found, _ = free_places(cells_at((5, 5, 5), occupied=[(True, True)], seen_through=[0.0]))
    assert found.is_valid.sum() == 1


def test_the_reach_ends_at_the_box_and_no_pairs_have_no_places():
    corner = cells_at((0, 19, 10), occupied=[(True, False)], seen_through=[1.0])
    found, _ = free_places(corner)
    assert found.is_valid.sum() == 4 * 4 * 7  # three cells inward along x and y, both ways along z
    none = CellTokens(corner.feat[:0], corner.is_occupied[:0], corner.centre_m[:0], corner.is_valid[:0])
    assert len(free_places(none)[0].is_valid) == 0


def test_only_places_that_both_frames_see_past_are_taken_and_no_more_than_asked():
    cells = cells_at((10, 10, 10), occupied=[(True, False)], seen_through=[1.0])
    found, state = free_places(cells, max_places=20, is_free=lambda centre: centre[..., 0] > 0.1)
    taken = found.is_valid[0, 1:]
    assert taken.sum() == 20
    assert (found.centre_m[0, 1:][taken][:, 0] > 0.1).all()
    more, _ = free_places(cells, max_places=30, is_free=lambda centre: centre[..., 0] > 0.1)
    assert torch.equal(more.centre_m[:, :21], found.centre_m)  # the same shuffle, further along
    assert state[0, :, 0].tolist() == [OCCUPIED, FREE]


def test_a_pair_takes_the_same_places_beside_any_other_pair():
    moved = cells_at((10, 10, 10), occupied=[(True, False)], seen_through=[1.0])
    still = cells_at((2, 2, 2), occupied=[(True, True)], seen_through=[0.0])
    both = CellTokens(
        *(
            torch.cat([getattr(still, name), getattr(moved, name)])
            for name in ("feat", "is_occupied", "centre_m", "is_valid")
        )
    )
    alone, together = free_places(moved, max_places=10)[0], free_places(both, max_places=10)[0]
    assert torch.equal(together.centre_m[1], alone.centre_m[0])
    assert together.is_valid[0].sum() == 1
