"""The square frame: which pixels it shows, and where they land."""

import numpy as np
import pytest

from laq_model.video.square import square_frame


def ramp(height: int, width: int) -> np.ndarray:
    """Red is the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(100, 160, 0, 30), (160, 100, 30, 0), (99, 175, 0, 38), (28, 28, 0, 0)],
)
def test_the_middle_square_is_cut_out(height, width, top, left):
    side = min(height, width)
    square = square_frame(ramp(height, width), side)
    assert square.shape == (side, side, 3)
    assert (square[0, 0, 0], square[0, 0, 1]) == (left, top)
    assert (square[-1, -1, 0], square[-1, -1, 1]) == (left + side - 1, top + side - 1)


def test_convention_crop_and_resize():
    """u becomes (u − left + 0.5) · scale − 0.5. Cut at 20, half size: pixel k shows 20 + 2 k + 0.5."""
    square = square_frame(ramp(84, 124), 42)
    columns, rows = square[20, :, 0].astype(float), square[:, 20, 1].astype(float)
    inner = np.arange(3, 39)  # at the border the filter lacks neighbours
    assert np.abs(columns[inner] - (20 + 2 * inner + 0.5)).max() <= 0.5  # rounding to whole grey levels
    assert np.abs(rows[inner] - (2 * inner + 0.5)).max() <= 0.5
    larger = square_frame(ramp(42, 42), 84)
    inner = np.arange(6, 78)
    assert np.abs(larger[40, inner, 0] - ((inner + 0.5) / 2 - 0.5)).max() <= 0.5


def test_shrinking_averages_and_does_not_skip():
    """Stripes one pixel wide become their mean; picking every fourth pixel would show black or white only."""
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = 255
    small = square_frame(stripes, 28)
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 2


def test_a_uniform_frame_stays_uniform():
    assert (square_frame(np.full((75, 131, 3), 77, np.uint8), 56) == 77).all()
