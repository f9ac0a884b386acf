"""Concerto checkpoints as they are published, {config, state_dict} in a torch archive, in the encoder."""

from __future__ import annotations

import json

import pytest
import torch
from ptv3_golden import read_manifest, recipe_network
from safetensors.torch import save_file

from laq_model.concerto_wrapper import ConcertoEncoder, build_point_network
from laq_model.encoder_config import EncoderConfig
from laq_model.errors import ConfigError, WeightsError
from laq_model.geometry_source import SensorSource
from laq_model.ptv3 import build_ptv3

CONFIG = {
    "stride": (2,),  # tuples and lists both occur
    "order": ["z", "hilbert"],
    "enc_depths": [1, 1],
    "enc_channels": [8, 24],
    "enc_num_head": [1, 3],
    "enc_patch_size": [32, 16],
    "enable_flash": True,
    "shuffle_orders": True,
}


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_checkpoint_is_opened_with_its_own_sizes_in_eval_mode(tmp_path, capsys, kind):
    tensors = recipe_network(CONFIG).state_dict()
    path = tmp_path / f"own.{kind}"
    if kind == "pth":
        torch.save({"config": CONFIG, "state_dict": tensors}, path)
    else:
        half = {key: value.half() for key, value in tensors.items()}
        save_file(half, path, metadata={"config": json.dumps(CONFIG), "licence": "Apache-2.0"})
    config = EncoderConfig(concerto_weights=str(path), geometry="sensor", feature_levels=1)
    network = build_point_network(config)
    assert not network.training
    for key, value in network.state_dict().items():
        expected = tensors[key] if kind == "pth" else tensors[key].half().float()
        assert value.dtype == torch.float32
        assert torch.equal(value, expected), key
    assert ConcertoEncoder(SensorSource(), network, config).feature_channels == 8 + 24
    said = capsys.readouterr().out
    if kind == "pth":
        assert said.startswith("weights of own.pth: not stated in the file; Concerto is CC-BY-NC-4.0")
    else:
        assert said == "weights of own.safetensors: Apache-2.0\n"


def test_a_state_dict_without_its_configuration_is_refused(tmp_path):
    torch.save(recipe_network(CONFIG).state_dict(), tmp_path / "bare.pth")
    with pytest.raises(WeightsError, match=r"bare.pth carries no network configuration"):
        build_point_network(EncoderConfig(concerto_weights=str(tmp_path / "bare.pth")))


def test_a_checkpoint_whose_tensors_are_not_those_of_its_configuration_is_refused(tmp_path):
    tensors = recipe_network(CONFIG).state_dict()
    torch.save({"config": CONFIG | {"enc_channels": [8, 48]}, "state_dict": tensors}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"wrong shape: .*enc1.* \[24, 8\] instead of \[48, 8\]"):
        build_point_network(EncoderConfig(concerto_weights=str(tmp_path / "other.pth")))


@pytest.mark.parametrize(
    ("model", "levels", "width"),
    [
        ("concerto_tiny", 2, 448),
        ("concerto_base", 0, 512),
        ("concerto_large", 0, 768),
        ("concerto_large", 4, 1728),
    ],
)
def test_the_width_of_features_is_that_of_the_weights(model, levels, width):
    with torch.device("meta"):
        network = build_ptv3(read_manifest()[model]["config"])
    encoder = ConcertoEncoder(SensorSource(), network, EncoderConfig(feature_levels=levels))
    assert encoder.feature_channels == width


def test_more_levels_than_the_network_has_are_refused():
    with pytest.raises(ConfigError, match=r"feature_levels must be at most 1, the finer stages .* got 2"):
        ConcertoEncoder(SensorSource(), build_ptv3(CONFIG), EncoderConfig(feature_levels=2))
