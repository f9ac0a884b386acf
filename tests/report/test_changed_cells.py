"""A box that moves before a wall: what vanished, appeared, stayed, and what nobody can tell."""

import pytest
import torch
from wall_and_box import CONFIG, SIZE_PX, observe, wall

from laq_model.errors import GeometryError
from laq_model.report.changed_cells import (
    APPEARED,
    NO_CELL,
    RECOLOURED,
    SAME,
    UNSEEN,
    VANISHED,
    find_changed_cells,
    view_of_point,
)

OLD, NEW, ELSEWHERE = (13, 7), (13, 20), (3, 3)  # row and column amid the box before, after, and of the wall


def test_convention_what_happened_where_a_box_moved():
    changed = find_changed_cells(observe(wall(box_column=4), wall(box_column=17)), CONFIG)
    before, after = changed.kind_of_pixel
    assert before[OLD] == VANISHED  # now one sees the wall through this place
    assert after[NEW] == APPEARED
    assert before[ELSEWHERE] == SAME
    assert after[ELSEWHERE] == SAME
    assert before[NEW] == UNSEEN  # this part of the wall is hidden afterwards
    assert after[OLD] == UNSEEN  # and this one was hidden before
    assert changed.count(RECOLOURED) == 0


def test_pixels_without_a_point_have_no_cell():
    broken = wall()
    broken[0, 0] = 0.0
    changed = find_changed_cells(observe(broken, wall()), CONFIG)
    assert changed.kind_of_pixel[0, 0, 0] == NO_CELL


def test_points_and_pixels_agree():
    scene = observe(wall(box_column=4), wall(box_column=17))
    changed = find_changed_cells(scene, CONFIG)
    view = view_of_point(scene)
    pixel = scene.cloud.pixel_index
    torch.testing.assert_close(
        changed.kind_of_point, changed.kind_of_pixel[view, pixel // SIZE_PX, pixel % SIZE_PX], rtol=0, atol=0
    )
    assert view.bincount().tolist() == torch.diff(scene.cloud.offset, prepend=torch.tensor([0])).tolist()


def test_the_same_frame_twice_has_not_changed():
    changed = find_changed_cells(observe(wall(box_column=4), wall(box_column=4)), CONFIG)
    assert {int(kind) for kind in changed.kind.unique()} == {SAME}


def test_a_camera_that_moves_before_a_still_wall_sees_no_motion():
    scene = observe(wall(), wall(), camera_x_m=[0.0, 0.2])
    changed = find_changed_cells(scene, CONFIG)
    assert changed.count(VANISHED) == changed.count(APPEARED) == changed.count(RECOLOURED) == 0
    # The left edge of the first frame has gone out of view, the right edge of the second was not in it.
    assert changed.kind_of_pixel[0, 14, 0] == UNSEEN
    assert changed.kind_of_pixel[1, 14, -1] == UNSEEN


@pytest.mark.parametrize(("change", "expected"), [(0.12, RECOLOURED), (0.08, SAME)])
def test_a_cell_is_recoloured_by_more_than_a_tenth(change, expected):
    color = torch.full((1, 2, 3, SIZE_PX, SIZE_PX), 0.5)
    color[0, 1, 2] += change
    changed = find_changed_cells(observe(wall(), wall(), color=color), CONFIG)
    assert changed.kind_of_pixel[0][ELSEWHERE] == expected


def test_one_frame_cannot_be_compared():
    with pytest.raises(GeometryError, match=r"one scene of two frames can be compared, got \(1, 1\)"):
        find_changed_cells(observe(wall()), CONFIG)
