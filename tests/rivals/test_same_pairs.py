"""A rival sees the pairs of the run, in the run's order."""

from dataclasses import replace

import pytest
import torch

from encoded_videos import store_and_run
from laq_model.checkpoint import open_run
from laq_model.errors import RunError
from laq_model.feature_store import FeatureStore
from laq_model.rivals.same_pairs import pairs_of_run, refuse_other_videos, training_folder
from laq_model.training.pair_source import StorePairs
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from laq_model.webm_dataset import PairDataset
from written_videos import write_recorded, write_video

DATA = VideoDataConfig(frame_size=112, frame_offset=5, num_workers=1, held_out_fraction=0.4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run from a store of every second pair."""
    root = tmp_path_factory.mktemp("made")
    for number in range(6):
        write_video(root / "videos" / f"v{number}.webm", 9 + number)
    data = replace(DATA, data_dir=str(root / "videos"))
    store_and_run(root, data, num_steps=2, every_n=2)
    return root, data


def test_pairs_of_a_run_from_a_store_are_its_rows(made):
    root, data = made
    store = FeatureStore(root / "store")
    source = StorePairs(store, held_out_fraction=0.4, device=torch.device("cpu"))
    pairs = pairs_of_run(open_run(root / "run").record, build_index(data))
    assert len(pairs) == source.num_train
    for index, row in enumerate(source._train_rows.tolist()):
        video, start = pairs.draw(3, index)
        assert (pairs.videos[video].name, start) == (store.names[row].video, store.names[row].current_index)


def test_pairs_of_a_run_from_videos_are_drawn_as_it_drew_them(made):
    _, data = made
    index = build_index(data)
    dataset = PairDataset(index, data, seed=7)
    record = {
        "config": {"features": "", "data": {"frame_offset": 5}, "optimization": {"seed": 7}},
        "data": {"videos": dataset.manifest()["videos"], "held_out": {}, "tokens": {}},
    }
    pairs = pairs_of_run(record, index)
    assert len(pairs) == len(dataset)
    starts = set()
    for epoch in (0, 1, 2):
        for number in range(len(dataset)):
            video, start = pairs.draw(epoch, number)
            expected = dataset.get(epoch, number)
            assert (pairs.videos[video].name, start) == (expected.video, expected.current_index)
            starts.add(start)
    assert len(starts) > 3


def test_other_videos_are_refused(made, tmp_path):
    root, data = made
    record = open_run(root / "run").record
    name = next(iter(record["data"]["videos"]))
    for video in (root / "videos").glob("*.webm"):
        if video.name != name:
            (tmp_path / video.name).write_bytes(video.read_bytes())
    here = replace(data, data_dir=str(tmp_path))
    with pytest.raises(RunError, match=rf"lacks 1 of the \d videos that the run was trained on \({name}\)"):
        pairs_of_run(record, build_index(here))
    write_video(tmp_path / name, 30)
    with pytest.raises(RunError, match=rf"{name} gives 13 pairs, but the run was trained on \d of it"):
        pairs_of_run(record, build_index(here))
    refuse_other_videos(record, build_index(data), held_out_fraction=0.4)
    with pytest.raises(RunError, match="would give other training videos than the run's: "):
        refuse_other_videos(record, build_index(data), held_out_fraction=0.9)


def test_a_store_that_does_not_say_its_pairs_is_refused(made):
    root, data = made
    record = open_run(root / "run").record
    del record["data"]["tokens"]["every_n"]
    with pytest.raises(RunError, match="its store does not say which it holds"):
        pairs_of_run(record, build_index(data))


def test_the_folder_is_the_run_s_own_or_the_one_that_is_given(made, tmp_path):
    root, data = made
    record = open_run(root / "run").record
    assert training_folder(record, data, data_dir="elsewhere", camera="").data_dir == data.data_dir
    moved = replace(data, data_dir=str(tmp_path / "gone"))
    assert training_folder(record, moved, data_dir="elsewhere", camera="").data_dir == "elsewhere"
    with pytest.raises(
        RunError, match=r"gone is not here; give their folder with --data_dir, without --is_new"
    ):
        training_folder(record, moved, data_dir="", camera="")


def test_a_store_of_one_camera_tells_which(tmp_path):
    folder = write_recorded(tmp_path, episodes=2)
    own = replace(DATA, data_dir=str(folder))
    videos = {"videos": {"videos/moving/reach-000.webm": 7}, "held_out": {"videos/moving/reach-001.webm": 7}}
    assert training_folder({"data": videos}, own, data_dir="", camera="").view == "moving"
    videos["held_out"]["videos/fixed/reach-001.webm"] = 7
    assert training_folder({"data": videos}, own, data_dir="", camera="").view == ""
