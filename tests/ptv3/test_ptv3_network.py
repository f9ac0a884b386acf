"""What the encoder promises: independence of neighbours, clear refusals, and that it can be trained."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ptv3_golden import join_clouds, random_clouds, recipe_network
from torch.testing import assert_close

from laq_model.errors import ConfigError, GeometryError, WeightsError
from laq_model.ptv3 import build_ptv3, load_official_weights
from laq_model.ptv3.blocks import Block, DropPath
from laq_model.ptv3.plan import plan_stages

CONFIG = {
    "in_channels": 5,
    "order": ["z", "z-trans", "hilbert", "hilbert-trans"],
    "stride": [2, 2],
    "enc_depths": [1, 4, 3],
    "enc_channels": [8, 16, 24],
    "enc_num_head": [1, 2, 3],
    "enc_patch_size": [32, 16, 8],
    "mlp_ratio": 2,
    "drop_path": 0.3,
    "shuffle_orders": True,
    "an_entry_of_tomorrow": None,
}


@pytest.fixture(scope="module")
def network():
    return recipe_network(CONFIG)


@torch.no_grad()
def test_a_cloud_does_not_feel_its_neighbours(network):
    cloud = random_clouds([201], extent=12, channels=5)
    wide = random_clouds([90], extent=40, channels=5, seed=1)
    alone = network(**cloud, max_grid_coord=63)
    beside = network(**join_clouds(wide, cloud), max_grid_coord=63)
    for index, stage in enumerate(alone.stages):
        # Rounding only, 1e-5 of the largest feature (10): a matrix library may sum in another order when
        # there are more rows. A neighbour's influence (below) is a hundred times as much.
        assert_close(beside.stages[index].feat[-len(stage.feat) :], stage.feat, rtol=0, atol=1e-4)
    # Without the bound the wide neighbour adds bits to the Hilbert curves: this is what the bound is for.
    pulled = network(**join_clouds(wide, cloud)).stages[-1].feat[-len(alone.stages[-1].feat) :]
    assert (pulled - network(**cloud).stages[-1].feat).abs().max() > 0.01


@torch.no_grad()
@settings(deadline=None, derandomize=True, max_examples=8)
@given(seed=st.integers(0, 1000), counts=st.lists(st.integers(0, 60), min_size=1, max_size=4))
def test_rows_may_come_in_any_order(seed, counts):
    network = recipe_network(CONFIG)
    clouds = random_clouds(counts, extent=9, channels=5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    starts = [0, *clouds["offset"].tolist()[:-1]]
    shuffled = torch.cat(
        [
            torch.randperm(count, generator=generator) + start
            for start, count in zip(starts, counts, strict=True)
        ]
    )
    out = network(**clouds)
    again = network(
        **{name: clouds[name][shuffled] for name in ("coord", "grid_coord", "feat")}, offset=clouds["offset"]
    )
    assert_close(again.to_points(2), out.to_points(2)[shuffled], rtol=0, atol=1e-4)
    for stage in out.stages:
        steps = torch.arange(len(stage.feat)).expand_as(stage.order)
        assert torch.equal(stage.order.sort(dim=1).values, steps)
        assert (stage.code.gather(1, stage.order).diff(dim=1) > 0).all()


@torch.no_grad()
def test_only_curves_that_a_block_follows_are_drawn_before_one_asks_for_the_others(network):
    clouds = random_clouds([60], extent=9, channels=5)
    plans = plan_stages(
        network.config, **{name: clouds[name] for name in ("coord", "grid_coord", "offset")}, max_grid_coord=8
    )
    stages = network(**clouds, max_grid_coord=8).stages
    for plan, stage, num_curves in zip(plans, stages, (1, 4, 3), strict=True):
        drawn = plan.tables.serialization
        assert len(drawn.order) == len(plan.tables.patches) == num_curves
        assert torch.equal(drawn.order, stage.order[:num_curves])
        assert torch.equal(drawn.code, stage.code[:num_curves])
        assert len(stage.order) == 4


@torch.no_grad()
@pytest.mark.parametrize("counts", [[0], [1], [0, 1, 0], [31], [32], [33], [32, 0, 33, 1]])
def test_short_and_empty_clouds(network, counts):
    clouds = random_clouds(counts, extent=9, channels=5)
    out = network(**clouds, max_grid_coord=8)
    assert out.to_points(2).shape == (sum(counts), 8 + 16 + 24)
    assert all(len(stage.offset) == len(counts) for stage in out.stages)
    for number, (start, end) in enumerate(
        zip([0, *clouds["offset"].tolist()], clouds["offset"].tolist(), strict=False)
    ):
        single = {name: clouds[name][start:end] for name in ("coord", "grid_coord", "feat")}
        alone = network(**single, offset=torch.tensor([counts[number]]), max_grid_coord=8)
        assert_close(out.to_points(2)[start:end], alone.to_points(2), rtol=0, atol=1e-4)


@torch.no_grad()
def test_levels_are_joined_finer_first(network):
    out = network(**random_clouds([60, 50], extent=9, channels=5))
    finer, deepest = out.stages[1:]
    expected = torch.cat([finer.feat, deepest.feat[deepest.pooling_inverse]], dim=1)
    assert torch.equal(out.upcast(1), expected)
    assert torch.equal(out.to_points(1), expected[finer.pooling_inverse])
    assert torch.equal(out.to_points(0), deepest.feat[deepest.pooling_inverse][finer.pooling_inverse])


@torch.no_grad()
def test_networks_come_in_eval_mode_and_repeat_themselves():
    network = build_ptv3(CONFIG)
    clouds = random_clouds([60], extent=9, channels=5)
    assert not network.training
    assert torch.equal(network(**clouds).to_points(0), network(**clouds).to_points(0))
    network.train()
    assert not torch.equal(network(**clouds).to_points(0), network(**clouds).to_points(0))


def test_training_reaches_every_parameter():
    network = recipe_network(CONFIG | {"layer_scale": 0.1, "drop_path": 0.0}).train()
    clouds = random_clouds([60, 20], extent=9, channels=5)
    mask = torch.arange(80) % 3 == 0
    network(**clouds, mask=mask).to_points(2).square().mean().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name


def test_drop_path_drops_whole_points_and_keeps_the_mean():
    rates = [block.drop_path.rate for block in build_ptv3(CONFIG).modules() if isinstance(block, Block)]
    assert_close(torch.tensor(rates), torch.linspace(0, 0.3, 8))  # over all blocks, not over each stage's
    torch.manual_seed(0)
    kept = DropPath(0.3).train()(torch.ones(20000, 2))
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert_close(kept.unique(), torch.tensor([0, 1 / 0.7]))
    assert kept.mean() == pytest.approx(1, abs=0.02)  # four standard deviations of 20000 draws
    assert torch.equal(DropPath(0.3).eval()(torch.ones(9, 2)), torch.ones(9, 2))


@torch.no_grad()
def test_masked_points_are_not_looked_at():
    network = recipe_network(CONFIG)
    clouds = random_clouds([60], extent=9, channels=5)
    mask = torch.arange(60) < 20
    changed = clouds | {"feat": torch.where(mask[:, None], 7.0, clouds["feat"])}
    assert torch.equal(network(**clouds, mask=mask).to_points(2), network(**changed, mask=mask).to_points(2))
    assert not torch.equal(network(**clouds).to_points(2), network(**changed).to_points(2))
    with pytest.raises(ValueError, match="built with mask_token=False"):
        build_ptv3(CONFIG | {"mask_token": False})(**clouds, mask=mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid_coord": torch.tensor([[0, 0, 1], [0, 0, 1]])}, "repeats a cell inside a cloud"),
        ({"grid_coord": torch.tensor([[0, 0, 1], [0, -2, 1]])}, "must not be negative, got -2"),
        ({"grid_coord": torch.tensor([[0, 0, 1], [0, 70000, 1]])}, "reaches 70000, at most 65534"),
        ({"max_grid_coord": 2}, "reaches 3, beyond max_grid_coord=2"),
        ({"offset": torch.tensor([1])}, r"offset \[1\] must ascend to the number of rows, 2"),
        ({"offset": torch.tensor([3, 2])}, r"offset \[3, 2\] must ascend"),
        (
            {"offset": torch.full((2**15,), 2), "max_grid_coord": 65534},
            "32768 clouds of 16-bit cells exceed 63 bits",
        ),
    ],
)
def test_impossible_clouds_are_refused(network, change, message):
    clouds = {
        "coord": torch.zeros(2, 3),
        "grid_coord": torch.tensor([[0, 0, 1], [0, 3, 1]]),
        "feat": torch.zeros(2, 5),
        "offset": torch.tensor([2]),
    }
    with pytest.raises(GeometryError, match=message):
        network(**clouds | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_channels": [8, 16]}, "enc_channels has 2 entries for 3 stages"),
        ({"stride": [2]}, "stride has 1 entries; 3 stages need 2"),
        ({"enc_num_head": [1, 3, 3]}, "3 heads do not divide 16 channels"),
        ({"order": ["z", "peano"]}, "order must name curves of z, z-trans, hilbert, hilbert-trans"),
        ({"enable_rpe": True}, "enable_rpe=True is not supported"),
        ({"drop_path": 1.0}, "drop_path must be from 0 to below 1"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        build_ptv3(CONFIG | change)


def test_weights_of_another_network_are_refused():
    tensors = build_ptv3(CONFIG).state_dict()
    other = build_ptv3(CONFIG | {"mask_token": False, "mlp_ratio": 4})
    with pytest.raises(
        WeightsError, match=r"unexpected: embedding\.mask_token; wrong shape: enc\.enc0\.block0\.mlp"
    ):
        load_official_weights(other, tensors)
