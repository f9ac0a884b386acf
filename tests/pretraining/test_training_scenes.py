from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from laq_model.errors import DatasetError
from laq_model.geometry.unproject import unproject_depth
from laq_model.pretraining.training_scenes import (
    SceneBatch,
    TrainingScenes,
    change_colors,
    draw_turns,
    mirror_scenes,
    turn_cameras,
    weights_of_things,
)
from laq_model.structures import DepthAndCameras


def write_shard(
    folder: Path, name: str, *, clips: int = 3, views: int = 4, size: int = 28, prefix: str = ""
) -> None:
    """A wall of random blocks before random cameras; colour tells depth, so that it can be learned."""
    rng = np.random.default_rng(len(name) + clips)
    depth = rng.uniform(800, 1600, (clips, views, size // 14, size // 14)).repeat(14, 2).repeat(14, 3)
    rgb = np.stack([depth / 8, 255 - depth / 8, np.full_like(depth, 90)], axis=-1)
    cam_from_world = np.tile(np.eye(3, 4), (clips, views, 1, 1))
    cam_from_world[1:, :, :, 3] = rng.normal(0, 0.05, (clips - 1, views, 3))
    middle = (size - 1) / 2
    intrinsics = np.tile(np.array([[size, 0, middle], [0, size, middle], [0, 0, 1.0]]), (clips, 1, 1))
    np.save(folder / f"{prefix}depth_{name}.npy", depth.astype(np.uint16))
    np.savez(
        folder / f"{prefix}cameras_{name}.npz",
        K=intrinsics,
        cam_from_world=cam_from_world,
        kind_of_instance=np.tile(np.arange(255, dtype=np.uint8) % 5, (clips, 1)),
    )
    np.save(folder / f"{prefix}instances_{name}.npy", (depth > 1200).astype(np.uint8) * 7)
    np.save(folder / f"{prefix}rgb_{name}.npy", rgb.astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path, "0000")
    write_shard(tmp_path, "0001", clips=2)
    write_shard(tmp_path, "10000", prefix="heldout_")
    return tmp_path


def test_clip_numbers_run_through_the_shards(folder):
    scenes = TrainingScenes(folder)
    assert (len(scenes), scenes.views_per_clip) == (5, 4)
    batch = scenes.read(np.array([3, 1]), np.array([[2, 0], [1, 1]]))
    stored = np.load(folder / "depth_0001.npy")[0, 2]
    assert_close(batch.recorded.depth[0, 0], torch.from_numpy(stored.astype(np.float32)) / 1000)
    assert_close(batch.frames[1, 0], batch.frames[1, 1])
    assert len(TrainingScenes(folder, held_out="unseen tasks")) == 3


def test_no_shards_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"no held-out \(unseen tasks\) shards"):
        TrainingScenes(tmp_path, held_out="unseen tasks")


def test_disagreeing_shard_is_an_error(folder):
    np.save(folder / "depth_0001.npy", np.zeros((1, 4, 28, 28), np.uint16))
    with pytest.raises(DatasetError, match="shard 0001"):
        TrainingScenes(folder)


def test_drawing_depends_on_seed_and_step_only(folder):
    scenes = TrainingScenes(folder)
    first, again, other = (scenes.draw(num_frames=6, num_views=2, seed=1, step=s) for s in (7, 7, 8))
    assert torch.equal(first.frames, again.frames)
    assert first.frames.shape == (3, 2, 3, 28, 28)
    assert not torch.equal(first.frames, other.frames)


def test_mirrored_scene_is_the_mirrored_world(folder):
    batch = TrainingScenes(folder).read(np.array([1, 2]), np.array([[0, 1], [2, 3]]))
    turned = mirror_scenes(batch, torch.tensor([True, False]))
    points, mirrored = (
        unproject_depth(b.recorded.depth, b.recorded.intrinsics, b.recorded.cam_from_world)
        for b in (batch, turned)
    )
    assert_close(mirrored[0].flip(-2), points[0] * torch.tensor([-1.0, 1.0, 1.0]))
    assert_close(mirrored[1], points[1])
    rotation = turned.recorded.cam_from_world[..., :3]
    assert_close(torch.linalg.det(rotation), torch.ones(2, 2))


def test_turned_cameras_see_the_same_world():
    # A wall at z = 2 m whose red is its world x: the world point behind a pixel tells its colour.
    size, middle = 56, 27.5
    intrinsics = torch.tensor([[60.0, 0, middle], [0, 60, middle], [0, 0, 1]]).expand(1, 2, 3, 3)
    depth = torch.full((1, 2, size, size), 2.0)
    camera = torch.eye(3, 4).expand(1, 2, 3, 4)
    x = unproject_depth(depth, intrinsics, camera)[..., 0]
    recorded = DepthAndCameras(
        depth=depth,
        confidence=torch.ones_like(depth),
        intrinsics=intrinsics,
        cam_from_world=camera,
        world_up=torch.tensor([[0.0, 0, 1]]),
        is_metric=True,
    )
    frames = (x / 4 + 0.5)[:, :, None].expand(-1, -1, 3, -1, -1)
    batch = SceneBatch(frames, recorded, pixel_weight=frames[:, :, 0])
    angle = torch.tensor(0.05)
    turn = torch.eye(3).repeat(1, 2, 1, 1)
    turn[0, 1, 0, 0] = turn[0, 1, 2, 2] = angle.cos()
    turn[0, 1, 0, 2], turn[0, 1, 2, 0] = angle.sin(), -angle.sin()
    turned = turn_cameras(batch, torch.tensor([1.3]), turn)
    world = unproject_depth(turned.recorded.depth, turned.recorded.intrinsics, turned.recorded.cam_from_world)
    assert_close(world[..., 2], depth, rtol=0, atol=1e-4)
    # Colours are between two pixels' at the border of the picture only: nothing there was outside.
    assert_close(turned.frames[:, :, 0], world[..., 0] / 4 + 0.5, rtol=0, atol=1e-4)
    assert_close(turned.pixel_weight, turned.frames[:, :, 0], rtol=0, atol=0.02)  # the nearest pixel's
    # The second camera looks 0.05 rad to the left of the first one, whose middle it sees to its right.
    assert float(world[0, 1, 28, 28, 0] - world[0, 0, 28, 28, 0]) == pytest.approx(-0.1, abs=0.01)


def test_no_turn_and_no_zoom_change_nothing(folder):
    batch = TrainingScenes(folder).read(np.array([1]), np.array([[0, 1]]))
    same = turn_cameras(batch, torch.ones(1), torch.eye(3).expand(1, 2, 3, 3))
    assert_close(same.frames, batch.frames, rtol=0, atol=1e-4)
    assert torch.equal(same.recorded.depth, batch.recorded.depth)


def test_turns_are_drawn_for_about_half_and_stay_within_the_room():
    zoom, rotation = draw_turns(200, 2, torch.Generator().manual_seed(0))
    is_turned = zoom > 1
    assert 70 < int(is_turned.sum()) < 130
    assert float(zoom.max()) <= 1.3
    assert torch.equal(rotation[~is_turned], torch.eye(3).expand(int((~is_turned).sum()), 2, 3, 3))
    assert_close(rotation @ rotation.mT, torch.eye(3).expand(200, 2, 3, 3))
    # No axis turns by more than 0.25 · 0.3 rad, three of them together by at most √3 times that.
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert float(cosine.min()) > np.cos(0.075 * 3**0.5) - 1e-6


def test_a_thing_weighs_by_the_root_of_its_area_and_by_what_it_is():
    instances = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    instances[0, 0, :10, :10] = 3  # 100 of 400 pixels
    instances[0, 0, 19, 19] = 5  # one pixel weighs like the smallest thing, of 16
    kinds = torch.zeros_like(instances)
    kinds[0, 0, :10, :10] = 3  # a hand counts four times as much as the room
    weight = weights_of_things(instances, kinds)[0, 0]
    assert_close(weight[0, 0] / weight[0, 15], torch.tensor(4 * 299**0.5 / 100**0.5))
    assert_close(weight[19, 19] / weight[0, 15], torch.tensor(299**0.5 / 16**0.5))
    assert_close(weight.mean(), torch.tensor(1.0))


def test_kinds_are_those_of_the_things_shown(folder):
    scenes = TrainingScenes(folder)
    kinds = scenes.kinds(np.array([3]), np.array([[2, 0]]))
    is_far = np.load(folder / "depth_0001.npy")[0][[2, 0]] > 1200
    assert np.array_equal(kinds[0], np.where(is_far, 7 % 5, 0))


def test_colours_change_and_stay_in_range():
    frames = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = change_colors(frames, torch.Generator().manual_seed(1))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - frames).abs().mean() > 0.02
