"""Which pairs a step sees: each once an epoch, disjoint over processes, the same after a resume."""

import numpy as np
import pytest
import torch

from laq_model.errors import DatasetError
from laq_model.feature_store import FeatureStore
from laq_model.training.pair_source import StorePairs, picks_of_step, spread_indices
from laq_model.video.pairs import split_videos
from synthetic_store import write_store

CPU = torch.device("cpu")


def picks_of(steps: range, batch_size: int, num_train: int, seed: int = 0) -> list[tuple[int, int]]:
    return [
        pick
        for step in steps
        for pick in picks_of_step(step, batch_size=batch_size, num_train=num_train, seed=seed)
    ]


def test_an_epoch_visits_each_pair_once_in_another_order():
    picks = picks_of(range(10), 3, 10)
    epochs = [[index for epoch, index in picks if epoch == number] for number in range(3)]
    assert [sorted(indices) for indices in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_picks_depend_on_seed_and_step_alone():
    assert picks_of(range(4, 6), 5, 12) == picks_of(range(6), 5, 12)[20:]
    assert picks_of(range(1), 12, 12) != picks_of(range(1), 12, 12, seed=1)


def test_more_processes_see_the_same_pairs():
    """A step of 2 x 3 pairs is a step of 6: process 0 has the first three."""
    assert picks_of(range(5), 6, 11) == picks_of(range(10), 3, 11)


def test_held_out_pairs_are_spread():
    assert list(spread_indices(10, 4)) == [0, 2, 5, 7]
    assert list(spread_indices(3, 10)) == [0, 1, 2]


class TestStorePairs:
    def test_the_split_is_that_of_the_videos(self, tmp_path):
        store = FeatureStore(write_store(tmp_path, num_videos=12, pairs_each=3))
        source = StorePairs(store, held_out_fraction=0.3, device=CPU)
        train, held_out = split_videos(store.names.videos, 0.3)
        manifest = source.manifest()
        assert manifest["videos"] == dict.fromkeys(sorted(train), 3)
        assert manifest["held_out"] == dict.fromkeys(sorted(held_out), 3)
        assert (source.num_train, source.num_held_out) == (3 * len(train), 3 * len(held_out))
        assert manifest["tokens"] == store.description

    def test_indices_name_pairs_of_their_side(self, tmp_path):
        store = FeatureStore(write_store(tmp_path, num_videos=6, pairs_each=4))
        source = StorePairs(store, held_out_fraction=0.3, device=CPU)
        held_out = source.manifest()["held_out"]
        is_held_out = [name.video in held_out for name in store.names]
        for number, row in enumerate(np.flatnonzero(is_held_out)):
            read = source.tokens(source.load_held_out([number])).feat
            assert torch.equal(read, store.read([int(row)]).feat.float())
        for number, row in enumerate(np.flatnonzero(~np.array(is_held_out))):
            read = source.tokens(source.load_train([(3, number)])).feat
            assert torch.equal(read, store.read([int(row)]).feat.float())

    def test_one_video_is_too_few(self, tmp_path):
        store = FeatureStore(write_store(tmp_path, num_videos=1))
        with pytest.raises(DatasetError, match=r"too few videos to hold some out; precompute at least two"):
            StorePairs(store, held_out_fraction=0.3, device=CPU)
