"""The scene's motion as a target: what vanished and appeared, added up by hand."""

from __future__ import annotations

import dataclasses

import torch
from torch.testing import assert_close

from laq_model.action_model.motion import (
    MOTION_CHANNELS,
    mass_centres,
    moved_mass,
    scene_motion,
    stands_still,
)
from laq_model.action_model.places import compare_places
from laq_model.structures import (
    DISPLACEMENT,
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPANCY,
    OCCUPIED,
    SEEN_THROUGH,
    UNKNOWN,
    PairTokens,
)


def line_of_cells(before: list[int], after: list[int], *, count: int = 6) -> PairTokens:
    """Cells along x at 0, 0.1, 0.2, ...; the thing fills those of ``before``, then those of ``after``."""
    state = torch.full((1, 2, count), FREE)
    state[0, 0, before], state[0, 1, after] = OCCUPIED, OCCUPIED
    feat = torch.zeros(1, 2, count, GEOMETRY_CHANNELS)
    feat[..., OCCUPANCY] = (state == OCCUPIED).float()
    feat[..., SEEN_THROUGH] = ((state == OCCUPIED) & (state.flip(1) == FREE)).float()
    position = torch.zeros(1, count, 3)
    position[..., 0] = torch.arange(count) * 0.1
    return PairTokens(feat, state, position, torch.ones(1, count, dtype=torch.bool))


def with_displacement(pair: PairTokens, *cells: tuple[int, int, float]) -> PairTokens:
    """The pair with a displacement along x at (frame, cell)."""
    feat = pair.feat.clone()
    for frame, cell, metres in cells:
        feat[0, frame, cell, DISPLACEMENT.start] = metres
    return dataclasses.replace(pair, feat=feat)


def test_convention_displacement_of_the_moved_mass():
    # Cell 1 vanished, cell 3 appeared: two places that went 0.2, and 0.1 more for doubt.
    pair = with_displacement(line_of_cells([1, 2], [2, 3]), (0, 1, 0.2), (1, 3, 0.2))
    assert_close(scene_motion(pair)[0], torch.tensor([0.4 / 2.1, 0, 0]))


def test_a_body_that_is_seen_less_does_not_pull():
    # Of four cells one goes another way: the mean would be 0.1, the middle stays with the three.
    pair = with_displacement(
        line_of_cells([0, 1], [3, 4]), (0, 0, 0.2), (0, 1, 0.2), (1, 3, 0.2), (1, 4, -0.2)
    )
    assert_close(scene_motion(pair)[0, 0], torch.tensor(0.2 * 4 / 4.1), atol=0.005, rtol=0)


def test_places_whose_displacement_was_not_found_do_not_dilute_it():
    pair = with_displacement(line_of_cells([1, 2, 5], [2, 3]), (0, 1, 0.2), (1, 3, 0.2))
    assert_close(scene_motion(pair)[0], torch.tensor([0.4 / 2.1, 0, 0]))


def test_a_displacement_where_nothing_was_seen_through_is_no_motion():
    assert scene_motion(with_displacement(line_of_cells([1, 2], [2, 3]), (0, 2, 0.2))).eq(0).all()


def test_time_reversed_is_the_opposite_motion():
    pair = with_displacement(line_of_cells([0, 1, 2], [3]), (0, 1, 0.2), (1, 3, 0.1))
    feat = pair.feat.flip(1)
    feat[..., DISPLACEMENT] *= -1
    back = dataclasses.replace(pair, feat=feat, state=pair.state.flip(1))
    assert scene_motion(pair).ne(0).any()
    assert_close(scene_motion(back), -scene_motion(pair))


def test_a_frame_with_itself_has_exactly_no_motion():
    assert scene_motion(line_of_cells([1, 2], [1, 2])).eq(0).all()


def test_what_one_frame_does_not_see_is_no_motion():
    pair = line_of_cells([1], [3])
    pair.state[0, 0, 3] = UNKNOWN
    assert moved_mass(pair)[0].tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_the_predictor_s_frame_keeps_no_word_of_the_future():
    pair = with_displacement(line_of_cells([1, 2], [2, 3]), (0, 1, 0.2))
    stays = line_of_cells([1, 2], [1, 2])
    zeros, ones = torch.zeros(GEOMETRY_CHANNELS), torch.ones(GEOMETRY_CHANNELS)
    size = torch.ones(MOTION_CHANNELS)
    places = compare_places(pair, zeros, ones, size)
    assert torch.equal(places.current, compare_places(stays, zeros, ones, size).current)
    assert not torch.equal(places.feat[:, 0], places.current)
    assert places.moved[0].tolist() == [0, -1, 0, 1, 0, 0]


def test_motion_goes_from_the_middle_of_what_is_gone_to_the_middle_of_what_is_new():
    # Of cells 0 to 2 and then 1 to 4, cell 0 is gone, and 3 and 4 are new.
    assert_close(mass_centres(line_of_cells([0, 1, 2], [1, 2, 3, 4]))[0, :, 0], torch.tensor([0.0, 0.35]))


def test_where_nothing_is_gone_or_nothing_new_no_way_is_known():
    assert mass_centres(line_of_cells([], [2])).isnan().all()
    assert mass_centres(line_of_cells([1, 2], [1, 2])).isnan().all()


def is_still(pair: PairTokens) -> bool:
    return bool(stands_still(pair, mass=moved_mass(pair), motion=scene_motion(pair)).item())


def test_a_speck_without_a_displacement_stands_still():
    moved, still = line_of_cells([1, 2], [2, 3]), line_of_cells([1, 2], [1, 2])
    still.feat[0, 0, 1, SEEN_THROUGH] = 0.01  # of six places; 0.0117 is what counts as none
    assert is_still(still)
    assert not is_still(moved)
    assert not is_still(with_displacement(still, (0, 1, 0.2)))
    still.feat[0, 1, 2, SEEN_THROUGH] = 0.005
    assert not is_still(still)
