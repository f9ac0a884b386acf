"""Frames by time, and stretches of a file as videos of their own; by hand."""

from array import array
from fractions import Fraction

import pytest

from laq_model.video.frame_table import FrameTable

# Ten frames a second from 0.5 s on, in milliseconds; the frame of 1.1 s is missing.
STAMPS = [500, 600, 700, 800, 900, 1000, 1200, 1300]
FILE = FrameTable(
    num_frames=8,
    width=64,
    height=48,
    pts=array("q", STAMPS),
    time_base=Fraction(1, 1000),
    rate=Fraction(10),
    keyframes=array("q", [2, 5]),
    damage="noted",
)


@pytest.mark.parametrize(
    ("time_s", "number"), [(0.5, 0), (0.0, 0), (0.64, 1), (0.66, 2), (1.0, 5), (1.14, 6), (9.0, 7)]
)
def test_the_nearest_frame_by_the_clock_of_the_file(time_s, number):
    assert FILE.nearest(time_s) == number


@pytest.mark.parametrize(
    ("first", "start_pts", "keyframes"),
    [(0, None, [2, 5]), (1, 500, [1, 4]), (2, 700, [3]), (4, 700, [1]), (5, 1000, []), (6, 1000, [])],
)
def test_a_stretch_is_reached_from_the_nearest_place_where_seeking_works(first, start_pts, keyframes):
    stretch = FILE.stretch(first, 8 - first)
    assert (stretch.start_pts, stretch.keyframes.tolist()) == (start_pts, keyframes)


def test_a_stretch_has_its_own_numbers_and_times():
    stretch = FILE.stretch(4, 3)
    assert (stretch.num_frames, stretch.pts.tolist()) == (3, [900, 1000, 1200])
    assert [stretch.time_s(number) for number in range(3)] == pytest.approx([0, 0.1, 0.3])
    assert (stretch.width, stretch.height, stretch.damage) == (64, 48, "noted")
    assert stretch.keyframes.tolist() == [1]
    assert FILE.stretch(0, 5).keyframes.tolist() == [2]
