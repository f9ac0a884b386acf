"""The point encoder on a GPU: the golden files, equal bits, and no questions between the blocks."""

from __future__ import annotations

import json

import pytest
import torch
from ptv3_golden import join_clouds, random_clouds, read_golden, recipe_network
from torch import Tensor
from torch.testing import assert_close

from laq_model.ptv3 import point_features
from laq_model.ptv3.plan import plan_stages

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
DEVICE = torch.device("cuda")
INPUTS = ("coord", "grid_coord", "feat", "offset")


@pytest.fixture(autouse=True)
def without_tf32():
    """Products of float32 numbers in float32; TF32 has 10 bits."""
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = kept


def on_device(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(DEVICE) for name, value in tensors.items()}


@torch.no_grad()
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_golden_files(name):
    golden, metadata = read_golden(name)
    network = recipe_network(json.loads(metadata["config"])).to(DEVICE)
    out = network(**on_device({key: golden[key] for key in INPUTS}))
    for index, stage in enumerate(out.stages):
        assert torch.equal(stage.order.cpu(), golden[f"s{index}.order"].long())
        if stage.pooling_inverse is not None:
            assert torch.equal(stage.pooling_inverse.cpu(), golden[f"s{index}.pooling_inverse"].long())
        # Another device sums in another order: twice what the CPU is allowed.
        assert_close(stage.feat.cpu(), golden[f"flash.s{index}.feat"], rtol=0, atol=2e-4)


@torch.no_grad()
def test_the_same_call_twice_and_the_same_cloud_twice_have_the_same_bits():
    network = recipe_network(json.loads(read_golden("b")[1]["config"])).to(DEVICE)
    cloud, other = (random_clouds([count], extent=20, channels=9, seed=count) for count in (900, 333))
    clouds = on_device(join_clouds(cloud, other, cloud))
    settings = {"max_grid_coord": 99, "levels": 2}
    batched = point_features(network, **clouds, **settings, clouds_per_call=8)
    assert torch.equal(batched, point_features(network, **clouds, **settings, clouds_per_call=8))
    assert torch.equal(batched[:900], batched[-900:])
    single = point_features(network, **clouds, **settings, clouds_per_call=1)
    alone = point_features(network, **on_device(cloud), **settings, clouds_per_call=1)
    assert torch.equal(single[:900], alone)


@torch.no_grad()
def test_once_planned_the_network_asks_the_device_nothing():
    network = recipe_network(json.loads(read_golden("b")[1]["config"])).to(DEVICE)
    clouds = on_device(random_clouds([900, 333], extent=20, channels=9))
    feat = clouds.pop("feat")
    plans = plan_stages(network.config, **clouds, max_grid_coord=99)
    torch.cuda.set_sync_debug_mode("error")
    try:
        network.encode(plans, feat)
    finally:
        torch.cuda.set_sync_debug_mode("default")
