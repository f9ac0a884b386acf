"""What a cloud's features may depend on: nothing but the cloud, to the last bit, on any CPU."""

from __future__ import annotations

import pytest
import torch
from ptv3_golden import join_clouds, random_clouds, recipe_network
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from laq_model.ptv3 import PointTransformerV3, point_features
from laq_model.ptv3.plan import plan_stages
from laq_model.ptv3.separate_clouds import first_equal_cloud

CONFIG = {
    "in_channels": 5,
    "stride": [2, 2],
    "enc_depths": [1, 2, 3],
    "enc_channels": [8, 16, 24],
    "enc_num_head": [1, 2, 3],
    "enc_patch_size": [32, 16, 8],
}
MAX_GRID_COORD = 63


@pytest.fixture(scope="module")
def network() -> PointTransformerV3:
    return recipe_network(CONFIG)


@pytest.fixture
def seen(network, monkeypatch) -> list[list[int]]:
    """Numbers of points in each cloud of each call of the network."""
    calls = []
    forward = PointTransformerV3.forward

    def counting(self, **clouds):
        calls.append(clouds["offset"].diff(prepend=torch.zeros(1, dtype=torch.long)).tolist())
        return forward(self, **clouds)

    monkeypatch.setattr(PointTransformerV3, "forward", counting)
    return calls


@torch.no_grad()
def features(network, clouds: dict[str, Tensor], *, clouds_per_call: int, levels: int = 2) -> Tensor:
    return point_features(
        network, **clouds, max_grid_coord=MAX_GRID_COORD, levels=levels, clouds_per_call=clouds_per_call
    )


def test_one_cloud_at_a_time_has_the_bits_of_the_cloud_alone(network):
    # Odd counts put every cloud at another address and another row of the batch.
    clouds = [random_clouds([count], extent=12, channels=5, seed=count) for count in (201, 77, 1, 130)]
    together = features(network, join_clouds(*clouds), clouds_per_call=1)
    alone = [features(network, cloud, clouds_per_call=1) for cloud in clouds]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("clouds_per_call", [1, 2, 8])
def test_equal_clouds_are_encoded_once_and_get_equal_bits(network, seen, clouds_per_call):
    cloud = random_clouds([201], extent=12, channels=5)
    other = random_clouds([77], extent=20, channels=5, seed=1)
    out = features(network, join_clouds(cloud, other, cloud, cloud), clouds_per_call=clouds_per_call)
    first, _, third, fourth = out.split([201, 77, 201, 201])
    assert torch.equal(first, third)
    assert torch.equal(first, fourth)
    assert seen == ([[201], [77]] if clouds_per_call == 1 else [[201, 77]])


@torch.no_grad()
def test_batches_are_chunked_in_order_and_differ_by_rounding_only(network, seen):
    clouds = random_clouds([30, 0, 201, 5, 77], extent=12, channels=5)
    out = features(network, clouds, clouds_per_call=2, levels=1)
    assert seen == [[30, 0], [201, 5], [77]]
    whole = network(**clouds, max_grid_coord=MAX_GRID_COORD).to_points(1)
    # A matrix library may sum in another order: 1e-5 of the largest feature (10).
    assert_close(out, whole, rtol=0, atol=1e-4)


def test_clouds_are_equal_only_if_cells_and_features_are():
    cloud = random_clouds([9], extent=5, channels=2)
    moved = cloud | {"grid_coord": cloud["grid_coord"] + torch.tensor([1, 0, 0])}
    recoloured = cloud | {"feat": cloud["feat"].clone()}
    recoloured["feat"][8, 1] += 1e-3
    turned = {name: value.flip(0) for name, value in cloud.items() if name != "offset"}
    shorter = {name: value[:-1] for name, value in cloud.items() if name != "offset"}
    clouds = [shorter, cloud, moved, cloud, recoloured, turned, recoloured, shorter]
    joined = join_clouds(*clouds)
    ends = joined["offset"].tolist()
    rows = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    assert first_equal_cloud(joined["grid_coord"], joined["feat"], rows) == [0, 1, 2, 1, 4, 5, 4, 0]


def test_a_call_without_clouds_is_refused(network):
    with pytest.raises(ValueError, match="clouds_per_call must be at least 1, got 0"):
        features(network, random_clouds([3], extent=5, channels=5), clouds_per_call=0)


class QuestionsToTheDevice(TorchDispatchMode):
    """Refuses operations whose result the host has to wait for."""

    NAMES = ("_local_scalar_dense", "nonzero", "_unique2", "bincount", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.NAMES, f"{name} makes the host wait for the device"
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_once_planned_the_network_asks_the_device_nothing(network):
    clouds = random_clouds([90, 31, 0, 8], extent=9, channels=5)
    feat = clouds.pop("feat")
    plans = plan_stages(network.config, **clouds, max_grid_coord=None)
    with QuestionsToTheDevice():
        out = network.encode(plans, feat)
    assert torch.equal(out.to_points(2), network(**clouds, feat=feat).to_points(2))
    with pytest.raises(AssertionError, match="makes the host wait"), QuestionsToTheDevice():
        plan_stages(network.config, **clouds, max_grid_coord=None)
