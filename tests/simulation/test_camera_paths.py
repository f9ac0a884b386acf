import numpy as np
import pytest

from laq_model.simulation.camera_paths import MOVES, draw_path, intrinsics_from_fov, look_at, smooth_noise


def test_convention_look_at_has_opencv_axes():
    # At (0, -2, 0), looking along +y: right is +x, down is -z, and the origin lies 2 m ahead.
    cam_from_world = look_at(np.array([[0.0, -2, 0]]), np.array([[0.0, 0, 0]]))[0]
    expected = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 2], [0, 0, 0, 1]]
    np.testing.assert_allclose(cam_from_world, expected, atol=1e-12)


def test_convention_intrinsics_have_integer_pixel_centres():
    # 90 degrees over 8 pixels: 4 pixels to each side at tan 45° = 1; the middle lies between pixels 3 and 4.
    np.testing.assert_allclose(intrinsics_from_fov(np.pi / 2, 8), [[4, 0, 3.5], [0, 4, 3.5], [0, 0, 1]])


@pytest.mark.parametrize("move", ["fixed", *MOVES])
def test_a_path_moves_only_when_asked_and_smoothly(move):
    path = draw_path(np.random.default_rng(3), num_frames=40, size=64, move=move)
    rotation, translation = path.cam_from_world[:, :3, :3], path.cam_from_world[:, :3, 3]
    eye = -np.einsum("fji,fj->fi", rotation, translation)
    steps = np.linalg.norm(np.diff(eye, axis=0), axis=1)
    if move == "fixed":
        assert steps.max() == 0
    else:
        assert (
            np.linalg.norm(eye - eye[0], axis=1).max() > 0.05
        )  # metres: enough to confuse pixel differences
        assert steps.max() < 0.06
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.tile(np.eye(3), (40, 1, 1)), atol=1e-12
    )


def test_the_table_stays_before_every_camera():
    for seed in range(30):
        move = ("fixed", *MOVES)[seed % 4]
        path = draw_path(np.random.default_rng(seed), num_frames=20, size=100, move=move)
        middle = path.cam_from_world @ np.array([0.0, 0.62, 0.12, 1])
        pixel = middle[:, :3] @ path.intrinsics.T
        pixel = pixel[:, :2] / pixel[:, 2:]
        assert (middle[:, 2] > 0.5).all()
        assert (np.abs(pixel - 49.5) < 35).all()


def test_equal_seeds_give_equal_paths():
    first, second = (
        draw_path(np.random.default_rng(5), num_frames=9, size=64, move="orbit") for _ in range(2)
    )
    np.testing.assert_array_equal(first.cam_from_world, second.cam_from_world)


def test_an_unknown_move_is_named():
    with pytest.raises(
        ValueError, match="no camera move 'spiral'; choose fixed or one of orbit, handheld, dolly"
    ):
        draw_path(np.random.default_rng(0), num_frames=4, size=64, move="spiral")


def test_smooth_noise_has_unit_knots_and_no_jumps():
    noise = smooth_noise(np.random.default_rng(0), 3000, 2)
    # Smoothstep's steepest slope is 1.5 a knot; knots are 15 frames apart and differ by at most about 6.
    assert np.abs(np.diff(noise, axis=0)).max() < 6 * 1.5 / 14
    assert 0.5 < noise.std() < 1.0  # 1 at the knots, less between them
