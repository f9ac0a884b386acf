"""The control whose futures are other pairs'."""

import torch

from laq_model.checkpoint import open_run
from laq_model.feature_store import FeatureStore
from laq_model.structures import FREE, OCCUPIED, UNKNOWN, PairTokens
from laq_model.training.loop import train
from laq_model.training.pair_source import StorePairs
from laq_model.training.shuffled_pairs import ShuffledPairs, with_future_of
from synthetic_store import write_store
from tiny_training import small_store, tiny_config


def line_of(places: list[float], values: list[float], states: list[int]) -> PairTokens:
    """One pair on the x axis: frame 0 holds the values, frame 1 ten times them."""
    feat = torch.tensor(values)[:, None]
    return PairTokens(
        feat=torch.stack([feat, 10 * feat])[None],
        state=torch.tensor([[OCCUPIED] * len(states), states])[None],
        position=torch.tensor([[[x, 0.0, 0.0] for x in places]]),
        is_valid=torch.ones(1, len(places), dtype=torch.bool),
    )


def test_the_future_comes_from_the_same_place_of_the_other_pair():
    own = line_of([0.0, 0.5, 0.9], [1.0, 2.0, 3.0], [OCCUPIED, OCCUPIED, OCCUPIED])
    other = line_of([0.5, -0.5, 0.0], [4.0, 5.0, 6.0], [OCCUPIED, OCCUPIED, FREE])
    mixed = with_future_of(own, other)
    # Place 0.0 is the other's third, 0.5 its first; it does not know 0.9.
    assert mixed.feat[0, 0, :, 0].tolist() == [1, 2, 3]
    assert mixed.feat[0, 1, :, 0].tolist() == [60, 40, 0]
    assert mixed.state[0].tolist() == [[OCCUPIED] * 3, [FREE, OCCUPIED, UNKNOWN]]
    assert torch.equal(mixed.position, own.position)


def test_padding_is_no_place():
    own = line_of([0.0, 0.0], [1.0, 2.0], [OCCUPIED, OCCUPIED])
    other = line_of([0.0, 0.0], [4.0, 5.0], [OCCUPIED, OCCUPIED])
    padded = PairTokens(other.feat, other.state, other.position, torch.tensor([[False, True]]))
    assert with_future_of(own, padded).feat[0, 1, :, 0].tolist() == [50, 50]
    nothing = PairTokens(other.feat, other.state, other.position, torch.tensor([[False, False]]))
    assert with_future_of(own, nothing).state[0, 1].tolist() == [UNKNOWN, UNKNOWN]


def test_each_pair_keeps_another_partner(tmp_path):
    true = StorePairs(
        FeatureStore(write_store(tmp_path, num_videos=6, pairs_each=4)),
        held_out_fraction=0.3,
        device=torch.device("cpu"),
    )
    shuffled = ShuffledPairs(true, seed=1)
    partners = [shuffled._partner[index] for index in range(shuffled.num_train)]
    assert sorted(partners) == list(range(true.num_train))
    assert all(partner != index for index, partner in enumerate(partners))
    picks = [(0, 2), (3, 2)]
    mixed = shuffled.tokens(shuffled.load_train(picks))
    own = true.tokens(true.load_train([(0, 2)]))
    other = true.tokens(true.load_train([(0, partners[2])]))
    assert torch.equal(mixed.feat[0], mixed.feat[1])  # the same partner in every epoch
    assert torch.equal(mixed.feat[0, 0], own.feat[0, 0])
    assert torch.equal(mixed.feat[0, 1, 1:-1], other.feat[0, 1, 1:-1])  # all places but hidden and padding
    assert not torch.equal(mixed.feat[0, 1, 1:-1], own.feat[0, 1, 1:-1])


def test_a_run_says_that_it_is_the_control(tmp_path):
    config = tiny_config(small_store(tmp_path / "store"), tmp_path / "run", num_steps=2, shuffle_pairs=True)
    result = train(config)
    record = open_run(tmp_path / "run").record
    assert record["config"]["shuffle_pairs"] is True
    assert record["data"]["shuffled"] is True
    assert result.held_out["num_pairs"] > 0
