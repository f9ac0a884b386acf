"""Recorded depth and cameras on the square that the network sees: the same world points, whatever was cut."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from laq_model.errors import DatasetError
from laq_model.geometry.unproject import unproject_depth
from laq_model.video.recorded_geometry import open_recorded
from laq_model.video.recorded_views import read_sensor
from written_videos import save_depth, write_recorded

VIDEO = "videos/fixed/reach-000.webm"
K = np.array([[100.0, 0.0, 31.5], [0.0, 120.0, 23.5], [0.0, 0.0, 1.0]])


def slanted_depth_mm(image: tuple[int, int], depth: tuple[int, int]) -> np.ndarray:
    """Depth of the plane z = 2 + 0.3 x + 0.2 y (metres) at each pixel of a map that shows the whole image.

    Pixel (u, v) of the image looks along ((u − 31.5) / 100, (v − 23.5) / 120, 1); the map's pixel i is at
    (i + 0.5) / scale − 0.5 of the image.
    """
    v, u = ((np.arange(small) + 0.5) * large / small - 0.5 for large, small in zip(image, depth, strict=True))
    slope = 0.3 * (u[None, :] - 31.5) / 100 + 0.2 * (v[:, None] - 23.5) / 120
    return np.broadcast_to(np.rint(2000 / (1 - slope)), (4, *depth)).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "depth", "frame_size", "expected"),
    [
        ((64, 64), (64, 64), 56, (64, 64)),
        ((64, 64), (64, 64), 28, (32, 32)),  # half the pixels are enough
        ((64, 64), (16, 16), 56, (16, 16)),
        ((64, 64), (21, 21), 56, (21, 21)),
        ((48, 64), (48, 64), 56, (48, 48)),
        ((48, 64), (24, 32), 14, (24, 24)),
        ((64, 48), (64, 48), 14, (16, 16)),
        ((50, 50), (50, 50), 14, (25, 25)),  # a third would do, but leaves part of a block at the border
        ((66, 130), (22, 43), 14, (22, 22)),  # 43.3 columns were stored as 43
    ],
)
def test_every_pixel_stays_on_its_plane(tmp_path, image, depth, frame_size, expected):
    """The cut and thinned map, lifted by its own intrinsics, gives points of the plane that was stored."""
    height, width = image
    folder = write_recorded(
        tmp_path, episodes=1, views=("fixed",), num_frames=4, height=height, width=width, depth_size=depth
    )
    save_depth(folder, slanted_depth_mm(image, depth))
    sensor = read_sensor(open_recorded(folder), VIDEO, (1, 3), frame_size=frame_size)
    assert sensor is not None
    assert tuple(sensor.depth.shape) == (1, 2, *expected)
    x, y, z = unproject_depth(sensor.depth, sensor.intrinsics, torch.eye(4)[:3].expand(1, 2, 3, 4)).unbind(-1)
    assert_close(z, 2 + 0.3 * x + 0.2 * y, atol=1e-3, rtol=0)  # depth was rounded to millimetres


def test_the_square_is_that_of_the_frame(tmp_path):
    """Image 48x64: columns 8 to 55 remain. The principal point (31.5, 23.5) becomes (23.5, 23.5)."""
    folder = write_recorded(
        tmp_path, episodes=1, views=("fixed",), num_frames=4, height=48, width=64, depth_size=(48, 64)
    )
    sensor = read_sensor(open_recorded(folder), VIDEO, (2, 3), frame_size=56)
    assert sensor is not None
    assert_close(sensor.intrinsics[0, 0], torch.tensor([[100.0, 0, 23.5], [0, 120, 23.5], [0, 0, 1]]))
    # Stored: 1000 · frame + 10 · row + column millimetres.
    assert_close(sensor.depth[0, 0, 5, 0], torch.tensor(2.058))
    assert_close(sensor.depth[0, 1, 47, 47], torch.tensor(3.525))


def test_convention_intrinsics_of_a_smaller_map(tmp_path):
    """A quarter of the size: (31.5 + 0.5) / 4 − 0.5 = 7.5, (23.5 + 0.5) / 4 − 0.5 = 5.5; 100 / 4, 120 / 4."""
    folder = write_recorded(tmp_path, episodes=1, views=("fixed",), num_frames=4, depth_size=(16, 16))
    sensor = read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56)
    assert sensor is not None
    assert_close(sensor.intrinsics[0, 0], torch.tensor([[25.0, 0, 7.5], [0, 30, 5.5], [0, 0, 1]]))


def test_thinning_picks_stored_values(tmp_path):
    """From 64 to 32 pixels: every second one, from pixel 1 on; (31.5 − 1) / 2 = 15.25, (23.5 − 1) / 2."""
    folder = write_recorded(tmp_path, episodes=1, views=("fixed",), num_frames=4)
    sensor = read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=28)
    assert sensor is not None
    assert_close(sensor.intrinsics[0, 0], torch.tensor([[50.0, 0, 15.25], [0, 60, 11.25], [0, 0, 1]]))
    assert_close(sensor.depth[0, 1, 0, 0], torch.tensor(1.011))
    assert_close(sensor.depth[0, 1, 2, 3], torch.tensor(1.057))


def test_the_scene_is_metric_with_its_cameras_and_up(tmp_path):
    folder = write_recorded(tmp_path, episodes=1, views=("fixed",), num_frames=4)
    sensor = read_sensor(open_recorded(folder), VIDEO, (1, 3), frame_size=56)
    assert sensor is not None
    assert sensor.is_metric
    assert sensor.world_up.tolist() == [[0, 0, 1]]
    assert sensor.cam_from_world[0, :, 0, 3].tolist() == [1, 3]
    assert sensor.cam_from_world.shape == (1, 2, 3, 4)
    hole = read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56)
    assert hole is not None
    assert (hole.depth[0, 0, 0, 0], hole.confidence[0, 0, 0, 0]) == (0, 0)  # frame 0 stores 0 at its corner
    assert hole.confidence[0, 0, 0, 1] == 1


def test_videos_without_geometry_have_none(tmp_path):
    folder = write_recorded(tmp_path, episodes=1, views=("fixed",), num_frames=4)
    (folder / "depth/fixed/reach-000.npy.xz").unlink()
    assert read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56) is None


def test_parts_that_do_not_fit(tmp_path):
    folder = write_recorded(tmp_path, episodes=1, views=("fixed",), num_frames=4)
    save_depth(folder, np.ones((4, 32, 48), np.uint16))
    with pytest.raises(
        DatasetError, match=r"depth of videos/fixed/reach-000\.webm is 48x32 pixels, another shape"
    ):
        read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56)
    save_depth(folder, np.ones((3, 64, 64), np.uint16))
    with pytest.raises(DatasetError, match=r"depth of .* has 3 frames, index\.json says 4"):
        read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56)
    save_depth(folder, np.ones((4, 64, 64), np.uint16))
    np.savez(folder / "cameras/fixed/reach-000.npz", K=K, T_cam_world=np.tile(np.eye(4), (5, 1, 1)))
    with pytest.raises(DatasetError, match=r"cameras of .* has 5 frames, index\.json says 4"):
        read_sensor(open_recorded(folder), VIDEO, (0, 1), frame_size=56)
