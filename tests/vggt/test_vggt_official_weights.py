"""Published files: with or without the other heads, of mixed types, and those that do not fit."""

import pytest
import torch
from torch import Tensor
from vggt_golden import read_golden, read_manifest

from laq_model.errors import WeightsError
from laq_model.vggt import VGGT, build_vggt, load_official_weights


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {key: value.clone() for key, value in read_golden("tiny_1x1x84x84").network().state_dict().items()}


def fresh() -> VGGT:
    return build_vggt(read_golden("tiny_1x1x84x84").config)


def test_point_and_track_heads_may_come_and_are_dropped(weights: dict[str, Tensor]):
    others = {key: torch.zeros(1) for key in read_manifest()["dropped_1b"]}
    assert len(others) == 456
    network = fresh()
    load_official_weights(network, others | weights)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())


def test_a_key_that_disagrees_is_named_and_nothing_changes(weights: dict[str, Tensor]):
    network = fresh()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cases = [
        (weights | {"depth_head.scratch.extra": torch.zeros(1)}, "unexpected: depth_head.scratch.extra"),
        (weights | {"points_head.norm.weight": torch.zeros(1)}, "unexpected: points_head.norm.weight"),
        (
            {k: v for k, v in weights.items() if k != "camera_head.trunk_norm.bias"},
            "camera_head.trunk_norm.bias",
        ),
        (
            weights | {"aggregator.camera_token": torch.zeros(1, 2, 1, 32)},
            r"wrong shape: aggregator.camera_token \[1, 2, 1, 32\] instead of \[1, 2, 1, 64\]",
        ),
    ]
    for tensors, message in cases:
        with pytest.raises(WeightsError, match=message):
            load_official_weights(network, tensors)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_meta_network_takes_each_tensor_s_own_type(weights: dict[str, Tensor]):
    golden = read_golden("tiny_2x2x70x56_full")
    mixed = {
        key: value.bfloat16() if key.startswith("aggregator.") else value for key, value in weights.items()
    }
    with torch.device("meta"):
        network = fresh()
    load_official_weights(network, mixed)
    kept = network.state_dict()
    assert all(kept[key].data_ptr() == value.data_ptr() for key, value in mixed.items())
    with torch.no_grad():
        out = network(golden.tensors["images"])
    assert out.depth.dtype == out.pose_enc.dtype == torch.float32
    error = (out.depth - golden.tensors["depth"][..., 0]).square().mean().sqrt()
    # The official network has 0.3 % with bfloat16 matrices only; here norms and tokens are rounded, too.
    assert error / golden.tensors["depth"].square().mean().sqrt() < 0.01
