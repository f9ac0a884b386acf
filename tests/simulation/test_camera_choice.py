import numpy as np

from laq_model.simulation.camera_choice import choose_path, sees
from laq_model.simulation.camera_paths import CameraPath, intrinsics_from_fov, look_at

# Two metres before the origin, looking along +y, 90 degrees wide: 16 pixels, depth at 8.
AHEAD = CameraPath(
    look_at(np.array([[0.0, -2, 0]] * 8), np.array([0.0, 0, 0])), intrinsics_from_fov(np.pi / 2, 16), "fixed"
)
AWAY = CameraPath(
    look_at(np.array([[0.0, -2, 0]] * 8), np.array([0.0, -4, 0])), intrinsics_from_fov(np.pi / 2, 16), "fixed"
)
HAND = np.zeros(3)


def depth_with(row, column, value):
    depth = np.full((8, 8), 0.5, dtype=np.float32)
    depth[row, column] = value
    return depth


def test_the_depth_map_is_read_where_the_point_is():
    # 1 m to the right and 0.5 m up: u = 7.5 + 8/2, v = 7.5 - 8/4; in the half-size map column 6, row 3.
    point = np.array([1.0, 0, 0.5])
    assert sees(AHEAD, 0, point, depth_with(3, 6, 2.0), size=16)
    assert not sees(AHEAD, 0, point, depth_with(6, 3, 2.0), size=16)


def test_what_lies_before_hides_unless_it_is_the_hand_itself():
    centre = (4, 4)  # the axis meets the corner of four pixels; rounding goes to the later one
    assert sees(AHEAD, 0, HAND, depth_with(*centre, 1.93), size=16)
    assert not sees(AHEAD, 0, HAND, depth_with(*centre, 1.9), size=16)


def test_a_point_outside_or_behind_is_not_seen():
    far = np.full((8, 8), 9.0, dtype=np.float32)
    assert not sees(AHEAD, 0, np.array([2.1, 0, 0]), far, size=16)
    assert not sees(AWAY, 0, HAND, far, size=16)


def test_the_first_good_camera_is_taken_else_the_best():
    hand = np.zeros((8, 3))
    far = np.full((8, 8), 9.0, dtype=np.float32)
    looks = []

    def draw(path, frame):
        looks.append(path)
        return far

    assert choose_path([AWAY, AHEAD, AHEAD], hand_m=hand, draw_depth=draw, size=16) is AHEAD
    assert looks == [AWAY, AWAY, AHEAD, AHEAD]  # frames 0 and 4 of each; the third is never looked at

    def half(path, frame):
        return far if frame == 4 else np.zeros((8, 8), dtype=np.float32)

    assert choose_path([AWAY, AHEAD], hand_m=hand, draw_depth=half, size=16) is AHEAD
