"""Pairs from a folder: which frames, in what order, and what comes with them."""

import json

import numpy as np
import pytest
import torch

from laq_model.errors import ConfigError, DatasetError, VideoReadError
from laq_model.geometry.unproject import unproject_depth
from laq_model.simulation.camera_paths import CameraPath, intrinsics_from_fov
from laq_model.simulation.episode_writer import EpisodeLabels, write_index, write_labels, write_view
from laq_model.structures import FramePair
from laq_model.video.index import build_index
from laq_model.webm_dataset import PairDataset, VideoDataConfig, all_pairs, collate
from written_videos import number_in, numbered_frame, write_recorded, write_video


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Six clips of 12 to 27 frames."""
    folder = tmp_path_factory.mktemp("plain")
    for number in range(6):
        pictures = [numbered_frame(n, height=64) for n in range(12 + 3 * number)]
        write_video(folder / f"{number}.webm", pictures)
    return folder


def opened(folder, **settings):
    config = VideoDataConfig(data_dir=str(folder), **{"frame_size": 56, "num_workers": 2, **settings})
    return build_index(config), config


def numbers(pair: FramePair) -> tuple[int, ...]:
    """The frame numbers that the two pictures show."""
    return tuple(number_in(frame.numpy()) for frame in pair.frames)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"frame_size": 225},
            r"frame_size must be a positive multiple of 14 .*, got 225; the nearest is 224",
        ),
        ({"frame_size": 0}, r"frame_size must be a positive multiple of 14 .*, got 0; the nearest is 14"),
        ({"frame_offset": 0}, r"frame_offset must be at least 1 frame, got 0"),
        ({"frame_offset": -3}, r"frame_offset must be at least 1 frame, got -3"),
        ({"held_out_fraction": 0.0}, r"held_out_fraction must lie between 0 and 1, without either, got 0.0"),
        ({"held_out_fraction": 1.0}, r"held_out_fraction must lie between 0 and 1, without either, got 1.0"),
        ({"max_videos": -1}, r"max_videos must not be negative, got -1"),
        ({"num_workers": -1}, r"num_workers must not be negative, got -1"),
        ({"decoder_patience_s": 0.0}, r"decoder_patience_s must be positive, got 0.0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        VideoDataConfig(**settings)


def test_a_pair_shows_the_frames_that_it_names(plain):
    index, config = opened(plain)
    dataset = PairDataset(index, config, seed=3)
    for number in range(len(dataset)):
        pair = dataset.get(0, number)
        assert pair.future_index - pair.current_index == 5
        assert numbers(pair) == (pair.current_index, pair.future_index)
        assert pair.current_time_s == pytest.approx(pair.current_index / 10)
        assert pair.future_time_s == pytest.approx(pair.future_index / 10)
        assert pair.frames.shape == (2, 56, 56, 3)
        assert pair.sensor is None


def test_sides_share_no_video_and_miss_none(plain):
    index, config = opened(plain, held_out_fraction=0.5)
    sides = [
        {dataset.get(0, number).video for number in range(len(dataset))}
        for dataset in (PairDataset(index, config, split=split) for split in ("train", "held_out"))
    ]
    assert sides[0] | sides[1] == {f"{number}.webm" for number in range(6)}
    assert not sides[0] & sides[1]
    assert all(sides)


def test_seed_epoch_and_index_decide_the_pair(plain):
    index, config = opened(plain)
    starts = {
        (seed, epoch): [PairDataset(index, config, seed=seed).get(epoch, n).current_index for n in range(8)]
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len({tuple(drawn) for drawn in starts.values()}) == 4
    assert starts[1, 1] == [PairDataset(index, config, seed=1).get(1, n).current_index for n in range(8)]


def test_an_epoch_draws_once_from_every_stretch_of_every_video(plain):
    index, config = opened(plain)
    dataset = PairDataset(index, config)
    stretches = [
        (pair.video, pair.current_index // 5) for pair in (dataset.get(7, n) for n in range(len(dataset)))
    ]
    train = json.loads(json.dumps(dataset.manifest()))["videos"]
    assert sorted(stretches) == sorted(
        (name, n) for name, frames in train.items() for n in range(-(-(frames - 5) // 5))
    )


def test_held_out_pairs_are_all_pairs_and_never_change(plain):
    index, config = opened(plain)
    pairs = [
        [PairDataset(index, config, split="held_out", seed=seed).get(epoch, n) for n in range(9)]
        for seed, epoch in ((0, 0), (5, 9))
    ]
    names = [[(pair.video, pair.current_index) for pair in some] for some in pairs]
    assert names[0] == names[1]
    assert [start for _, start in names[0][:7]] == list(range(7))
    dataset = PairDataset(index, config, split="held_out")
    assert len(dataset) == sum(frames - 5 for frames in dataset.manifest()["videos"].values())


def test_threads_give_the_same_pairs_in_the_same_order(plain):
    index, config = opened(plain)
    picks = [(epoch, n) for epoch in range(2) for n in (5, 0, 3)]
    one = PairDataset(index, opened(plain, num_workers=1)[1]).get_many(picks)
    many = PairDataset(index, config).get_many(picks)
    for a, b in zip(one, many, strict=True):
        assert (a.video, a.current_index) == (b.video, b.current_index)
        assert torch.equal(a.frames, b.frames)


def test_a_folder_of_one_episode_cannot_be_split(tmp_path):
    write_video(tmp_path / "only.webm", 12)
    index, config = opened(tmp_path)
    assert len(PairDataset(index, config)) == 2
    with pytest.raises(DatasetError, match=r"usable videos of one episode only \(only\.webm\); at least two"):
        PairDataset(index, config, split="held_out")


def test_views_of_an_episode_are_on_one_side(tmp_path):
    index, config = opened(write_recorded(tmp_path, episodes=2), held_out_fraction=0.5)
    train = PairDataset(index, config).manifest()["videos"]
    held_out = PairDataset(index, config, split="held_out").manifest()["videos"]
    assert len(train) == len(held_out) == 2
    assert len({name.rsplit("/", 1)[1] for name in train}) == 1


def test_the_manifest_names_what_was_skipped_or_damaged(tmp_path):
    write_video(tmp_path / "a.webm", 12)
    write_video(tmp_path / "b.webm", 12)
    (tmp_path / "c.webm").write_text("words")
    cut = write_video(tmp_path / "d.webm", 60)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    manifest = PairDataset(*opened(tmp_path)).manifest()
    assert list(manifest["damaged"]) == ["d.webm"]
    assert manifest["damaged"]["d.webm"].endswith("frames are sound (matroska,webm: File ended prematurely)")
    assert manifest["data_dir"] == str(tmp_path)
    assert manifest["skipped"] == {
        "c.webm": "cannot be opened as a video (Invalid data found when processing input)"
    }


@pytest.mark.parametrize("every_n", [1, 2, 5, 7, 30])
def test_all_pairs_walks_over_every_nth_start(plain, every_n):
    index, config = opened(plain)
    entry = next(entry for entry in index.videos if entry.name == "5.webm")
    pairs = list(all_pairs(index, entry, config, every_n=every_n))
    assert [pair.current_index for pair in pairs] == list(range(0, 22, every_n))
    for pair in pairs:
        assert pair.future_index == pair.current_index + 5
        assert numbers(pair) == (pair.current_index, pair.future_index)
    late = list(all_pairs(index, entry, config, every_n=every_n, first_pair=2))
    assert [pair.current_index for pair in late] == [pair.current_index for pair in pairs[2:]]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(late, pairs[2:], strict=True))


def test_all_pairs_equal_the_pairs_read_one_by_one(plain):
    index, config = opened(plain)
    dataset = PairDataset(index, config, split="held_out")
    name = dataset.get(0, 0).video
    entry = next(entry for entry in index.videos if entry.name == name)
    for number, pair in enumerate(all_pairs(index, entry, config)):
        read = dataset.get(0, number)
        assert (read.current_index, read.future_time_s) == (pair.current_index, pair.future_time_s)
        assert torch.equal(read.frames, pair.frames)


def test_a_video_that_changed_under_the_index_is_an_error(tmp_path):
    for name in ("a.webm", "b.webm"):
        write_video(tmp_path / name, 30)
    index, config = opened(tmp_path)
    for name in ("a.webm", "b.webm"):
        write_video(tmp_path / name, 10)
    dataset = PairDataset(index, config)
    with pytest.raises(VideoReadError, match=r"frame \d+ cannot be decoded, though the index knows it"):
        dataset.get(0, len(dataset) - 1)
    with pytest.raises(VideoReadError, match=r"frame 10 cannot be decoded, though the index knows it"):
        list(all_pairs(index, index.videos[0], config))


def test_collate_stacks_in_order(plain):
    index, config = opened(plain)
    pairs = PairDataset(index, config).get_many([(0, 4), (0, 1)])
    batch = collate(pairs)
    assert batch.sensor is None
    assert torch.equal(batch.frames[0], pairs[0].frames)
    assert torch.equal(batch.frames[1], pairs[1].frames)


def test_recorded_geometry_comes_with_its_pair(tmp_path):
    index, config = opened(write_recorded(tmp_path, depth_size=(16, 16)))
    dataset = PairDataset(index, config)
    batch = collate([dataset.get(0, n) for n in range(3)])
    assert batch.sensor is not None
    assert batch.sensor.depth.shape == (3, 2, 16, 16)
    for row in range(3):
        pair = dataset.get(0, row)
        # The cameras stand at x = frame number; depth is 1 m · frame number at the first pixel.
        assert batch.sensor.cam_from_world[row, :, 0, 3].tolist() == [pair.current_index, pair.future_index]
        assert batch.sensor.depth[row, :, 0, 0].tolist() == pytest.approx(
            [pair.current_index, pair.future_index]
        )
    (walked,) = [p for p in all_pairs(index, index.videos[0], config) if p.current_index == 3]
    assert walked.sensor is not None
    assert walked.sensor.depth[0, :, 0, 0].tolist() == pytest.approx([3, 8])


def test_recorded_geometry_can_be_left_unread(tmp_path):
    folder = write_recorded(tmp_path)
    for path in (folder / "depth").rglob("*.xz"):
        path.write_bytes(b"junk")
    index, config = opened(folder)
    assert PairDataset(index, config, with_sensor=False).get(0, 0).sensor is None
    assert next(all_pairs(index, index.videos[0], config, with_sensor=False)).sensor is None
    with pytest.raises(DatasetError, match=r"npy\.xz is damaged"):
        PairDataset(index, config).get(0, 0)


def test_a_batch_needs_geometry_of_all_or_none_in_one_size(tmp_path):
    index, config = opened(write_recorded(tmp_path / "a", episodes=2, views=("fixed",)))
    other_index, _ = opened(write_recorded(tmp_path / "b", episodes=2, views=("fixed",), depth_size=(16, 16)))
    pair, other = (PairDataset(i, config).get(0, 0) for i in (index, other_index))
    bare = PairDataset(index, config, with_sensor=False).get(0, 0)
    with pytest.raises(
        DatasetError, match=r"videos/fixed/.* has no recorded depth and cameras, but other videos"
    ):
        collate([pair, bare])
    with pytest.raises(DatasetError, match=r"must have one size: videos/.* has 64x64, videos/.* has 16x16"):
        collate([pair, other])


def test_what_the_episode_writer_writes_is_read_back_as_one_world(tmp_path):
    """A camera flies over a slanted floor; both frames of a pair must put it at the same place."""
    num_frames, size, depth_size = 8, 64, 16
    cam_from_world = np.tile(np.eye(4), (num_frames, 1, 1))
    cam_from_world[:, :3, 3] = np.arange(num_frames)[:, None] * np.array([0.05, -0.02, 0.1])
    intrinsics = intrinsics_from_fov(1.0, size)
    v, u = np.mgrid[:depth_size, :depth_size] * (size / depth_size) + (size / depth_size - 1) / 2
    ray = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    normal, height = np.array([0.2, -0.1, 1.0]), 2.0  # the floor: normal · x = height
    depth_m = (height + cam_from_world[:, :3, 3] @ normal)[:, None, None] / (ray @ normal)
    rgb = np.zeros((num_frames, size, size, 3), np.uint8)
    for name in ("reach-000", "reach-001"):
        write_view(
            tmp_path, view="moving", name=name, rgb=rgb, depth_m=depth_m.astype(np.float32),
            path=CameraPath(cam_from_world, intrinsics, "dolly"), fps=10, depth_step_mm=1, crf=40,
        )  # fmt: skip
        zeros = np.zeros(num_frames)
        labels = EpisodeLabels(
            np.zeros((num_frames - 1, 4), np.float32),
            zeros[:, None] + np.zeros(3),
            zeros,
            np.zeros((num_frames, 7)),
        )
        write_labels(tmp_path, name, labels)
    episodes = [
        {"name": name, "task": "reach-v3", "frames": num_frames} for name in ("reach-000", "reach-001")
    ]
    write_index(tmp_path, fps=10, size=size, views=["moving"], episodes=episodes)
    index, config = opened(tmp_path)
    sensor = PairDataset(index, config).get(0, 0).sensor
    assert sensor is not None
    world = unproject_depth(sensor.depth, sensor.intrinsics, sensor.cam_from_world)
    error = world @ torch.tensor(normal, dtype=torch.float32) - height
    assert error.abs().max() < 1.5e-3  # depth is stored in millimetres
