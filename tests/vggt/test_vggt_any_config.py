"""Configurations unlike those of the golden files, against the slow twin; and what a config refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from vggt_slow_twin import SlowTwin
from vggt_weight_recipe import recipe_weights

from laq_model.errors import ConfigError
from laq_model.vggt import VGGTConfig, build_vggt, load_official_weights
from laq_model.vggt.config import parse_config

ODD: dict[str, Any] = {
    "img_size": 75,  # no multiple of the patch: five patches and a rest
    "patch_size": 14,
    "embed_dim": 48,
    "vit_depth": 2,
    "vit_num_heads": 4,
    "vit_num_register_tokens": 2,
    "depth": 3,
    "num_heads": 3,
    "mlp_ratio": 2.5,
    "num_register_tokens": 3,
    "rope_freq": 30,
    "camera_trunk_depth": 3,
    "camera_num_heads": 16,
    "dpt_features": 24,
    "dpt_out_channels": [8, 16, 4, 12],
    "dpt_layers": [1, 0, 1, 0],  # neither in order nor with the last layer
}
BARE = ODD | {
    "img_size": 42,
    "patch_size": 7,
    "vit_num_register_tokens": 0,
    "num_register_tokens": 0,
    "vit_depth": 1,
    "depth": 1,
    "camera_trunk_depth": 1,
    "dpt_layers": [0, 0, 0, 0],
    "qk_norm": False,
}
CASES = [
    (ODD, (2, 3, 42, 56)),
    (ODD, (1, 2, 14, 14)),
    (ODD, (1, 1, 70, 70)),
    (BARE, (2, 2, 21, 35)),
    (BARE | {"qk_norm": True}, (1, 4, 7, 49)),
    (ODD | {"qk_norm": False, "embed_dim": 96, "num_heads": 24, "mlp_ratio": 1}, (1, 4, 28, 14)),
]


@pytest.mark.parametrize(("config", "size"), CASES)
def test_any_configuration_equals_the_slow_twin(config: dict[str, Any], size: tuple[int, int, int, int]):
    network = build_vggt(config).double().eval()
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    weights = {key: value.double() for key, value in recipe_weights(shapes, tag="odd:").items()}
    load_official_weights(network, weights)
    scenes, views, height, width = size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(scenes, views, 3, height, width, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        out = network(images)
        depth, confidence, pose = SlowTwin(config, weights)(images)
    # Two float64 computations of the same formulas, in another order.
    torch.testing.assert_close(out.depth, depth, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out.depth_conf, confidence, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(out.pose_enc, pose, rtol=1e-10, atol=1e-10)


def test_views_without_a_scene_axis_are_one_scene():
    network = build_vggt(ODD).eval()
    images = torch.rand(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        bare, scene = network(images), network(images[None])
    for name in ("depth", "depth_conf", "pose_enc"):
        assert torch.equal(getattr(bare, name), getattr(scene, name)), name


def test_shapes_under_the_official_keys():
    network = build_vggt(ODD)
    shapes = network.official_shapes()
    assert list(shapes) == list(network.state_dict())
    assert shapes["aggregator.patch_embed.pos_embed"] == (1, 26, 48)
    assert shapes["camera_head.pose_branch.fc1.weight"] == (48, 96)


def test_lists_become_tuples_and_what_is_missing_is_that_of_1b():
    config = parse_config({"embed_dim": 96, "num_heads": 4, "dpt_layers": [0, 1, 2, 3]})
    expected = VGGTConfig(embed_dim=96, num_heads=4, dpt_layers=(0, 1, 2, 3))
    assert config == expected
    assert dataclasses.asdict(config)["dpt_out_channels"] == (256, 512, 1024, 1024)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dims": 64, "vitdepth": 3}, "VGGT has no setting embed_dims, vitdepth"),
        ({"depth": 0}, "depth must be a positive whole number, got 0"),
        ({"img_size": 10}, "img_size 10 is smaller than patch_size 14"),
        ({"rope_freq": 0}, "rope_freq must be a positive number, got 0"),
        ({"num_heads": 5}, "num_heads=5 does not divide 48 channels"),
        ({"camera_num_heads": 5}, "camera_num_heads=5 does not divide 96 channels"),
        ({"num_heads": 8}, "6 channels .* multiple of 4"),
        ({"dpt_features": 20}, "dpt_features must be divisible by 8, got 20"),
        ({"dpt_layers": [0, 1, 2]}, r"dpt_layers needs 4 entries, got \[0, 1, 2\]"),
        ({"dpt_layers": [0, 1, 2, 3]}, "layers 0 to 2, got"),
        ({"dpt_out_channels": [8, 16, 6, 12]}, "dpt_out_channels must be positive and divisible by 4"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build_vggt(ODD | change)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 1, 3, 60, 56), torch.float32, "height 60 and width 56 must be multiples of 14"),
        ((1, 1, 3, 56, 57), torch.float32, "height 56 and width 57 must be multiples of 14"),
    ],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], dtype: torch.dtype, message: str):
    with pytest.raises(ConfigError, match=message):
        build_vggt(ODD)(torch.zeros(shape, dtype=dtype))
