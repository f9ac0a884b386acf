"""Whole networks of configurations unlike those of the golden files, against plain loops in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ptv3_golden import random_clouds, recipe_weight
from ptv3_slow_network import SlowNetwork
from torch import Tensor
from torch.testing import assert_close

from laq_model.ptv3 import build_ptv3, load_official_weights

# Entries of a checkpoint that change no result, at the values opposite to the published ones.
PASSED_OVER = {
    "shuffle_orders": False,
    "enable_flash": False,
    "upcast_attention": True,
    "upcast_softmax": True,
    "traceable": False,
    "drop_path": 0.7,
    "pre_norm": True,
    "enable_rpe": False,
    "enc_mode": True,
}
ODD: dict[str, Any] = PASSED_OVER | {
    "in_channels": 4,
    "order": ["hilbert-trans", "z"],
    "stride": [3, 2],
    "enc_depths": [2, 3, 1],
    "enc_channels": [6, 8, 20],
    "enc_num_head": [3, 1, 5],
    "enc_patch_size": [7, 16, 1],
    "mlp_ratio": 1.5,
    "qk_scale": 0.9,
    "layer_scale": 0.3,
    "qkv_bias": False,
    "mask_token": False,
}
CONFIGS = {
    "odd": ODD,
    "one stage, one curve": ODD
    | {
        "order": "hilbert",
        "stride": [],
        "enc_depths": [2],
        "enc_channels": [6],
        "enc_num_head": [2],
        "enc_patch_size": [10],
    },
    "a stage without blocks, a stride of one": ODD
    | {
        "order": ("z-trans", "hilbert", "z"),
        "stride": [1, 5],
        "enc_depths": [0, 2, 4],
        "qk_scale": None,
        "layer_scale": None,
        "qkv_bias": True,
        "mask_token": True,
        "mlp_ratio": 3,
    },
}


def run_both(
    config: dict[str, Any], **inputs: Any
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    network = build_ptv3(config).double()
    weights = {key: recipe_weight(key, tuple(shape)) for key, shape in network.official_shapes().items()}
    load_official_weights(network, weights)
    with torch.no_grad():
        out = network(**inputs)
    ours = [
        {name: getattr(stage, name) for name in ("feat", "coord", "grid_coord", "pooling_inverse")}
        for stage in out.stages
    ]
    return ours, SlowNetwork(config, weights)(**inputs)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("bound", [None, 40])
def test_any_configuration_equals_the_slow_network(name, bound):
    clouds = random_clouds([29, 0, 17, 1], extent=8, channels=4)
    clouds |= {"coord": clouds["coord"].double(), "feat": clouds["feat"].double()}
    # Cells and ends as another program would give them.
    clouds |= {"grid_coord": clouds["grid_coord"].int(), "offset": clouds["offset"].int()}
    ours, expected = run_both(CONFIGS[name], **clouds, max_grid_coord=bound)
    assert len(ours) == len(expected)
    for own, slow in zip(ours, expected, strict=True):
        assert torch.equal(own["grid_coord"].long(), slow["grid_coord"])
        assert (own["pooling_inverse"] is None) == (slow["pooling_inverse"] is None)
        if slow["pooling_inverse"] is not None:
            assert torch.equal(own["pooling_inverse"], slow["pooling_inverse"])
        # Two float64 computations of the same formulas, in another order.
        assert_close(own["feat"], slow["feat"], rtol=1e-9, atol=1e-9)
        assert_close(own["coord"], slow["coord"], rtol=1e-9, atol=1e-9)


def test_masked_points_take_the_token(recwarn):
    config = CONFIGS["a stage without blocks, a stride of one"]
    clouds = random_clouds([29, 17], extent=8, channels=4)
    clouds |= {"coord": clouds["coord"].double(), "feat": clouds["feat"].double()}
    ours, expected = run_both(config, **clouds, mask=torch.arange(46) % 3 == 0, max_grid_coord=None)
    assert_close(ours[-1]["feat"], expected[-1]["feat"], rtol=1e-9, atol=1e-9)
