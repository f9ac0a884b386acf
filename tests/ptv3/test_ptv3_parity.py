"""Every tensor of the golden files: integers exactly, floats within 1e-4 (activations reach 18)."""

from __future__ import annotations

import json
import re

import pytest
import torch
from ptv3_golden import read_golden, read_manifest, recipe_network, recipe_weight
from torch import Tensor
from torch.testing import assert_close

from laq_model.ptv3 import EncodedClouds, build_ptv3
from laq_model.ptv3.serialization import curve_codes
from laq_model.ptv3.sparse_conv import SubMConv3d, find_neighbours

TOLERANCE = {"rtol": 0.0, "atol": 1e-4}
CHILD_OF_NAME = {"conv": "cpe.0", "cpe": "cpe", "attn": "attn", "mlp": "mlp", "out": ""}


@pytest.fixture(scope="module", params=["a", "b", "c"])
def golden_run(request: pytest.FixtureRequest) -> tuple[dict[str, Tensor], EncodedClouds, dict[str, Tensor]]:
    """Golden tensors, our output, and what passed through the hooked children."""
    golden, metadata = read_golden(request.param)
    network = recipe_network(json.loads(metadata["config"]))
    seen: dict[str, Tensor] = {}
    path_of = {"embedding": "embedding"}
    for key in golden:
        if match := re.fullmatch(r"flash\.s(\d)\.b(\d)\.(\w+)", key):
            stage, block, name = match.groups()
            path_of[key] = f"enc.enc{stage}.block{block}.{CHILD_OF_NAME[name]}".rstrip(".")
        elif match := re.fullmatch(r"flash\.s(\d)\.down", key):
            path_of[key] = f"enc.enc{match[1]}.down"
    for key, path in path_of.items():
        network.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output, key=key: seen.__setitem__(key, output)
        )
    with torch.no_grad():
        out = network(**{name: golden[name] for name in ("coord", "grid_coord", "feat", "offset")})
    return golden, out, seen


def test_structure_of_stages_is_exact(golden_run):
    golden, out, _ = golden_run
    compared = 0
    for key, expected in golden.items():
        if match := re.fullmatch(r"s(\d)\.(code|order|grid_coord|offset|pooling_inverse)", key):
            ours = getattr(out.stages[int(match[1])], match[2])
            assert_close(ours, expected, rtol=0, atol=0, check_dtype=False)
            compared += 1
    assert compared >= 3 * len(out.stages)
    assert out.stages[0].pooling_inverse is None
    assert out.stages[-1].grid_coord.dtype == golden["grid_coord"].dtype


def test_features_of_stages(golden_run):
    golden, out, _ = golden_run
    for index, stage in enumerate(out.stages):
        assert_close(stage.feat, golden[f"flash.s{index}.feat"], **TOLERANCE)
        assert_close(stage.coord, golden.get(f"s{index}.coord", golden["coord"]), rtol=0, atol=1e-6)


def test_tensors_inside_blocks(golden_run):
    golden, _, seen = golden_run
    assert len(seen) >= 1 + 5 + 2  # embedding, one whole block, poolings
    for key, ours in seen.items():
        assert_close(ours, golden[key], msg=lambda text, key=key: f"{key}: {text}", **TOLERANCE)


def test_joined_levels(golden_run):
    golden, out, _ = golden_run
    rows = golden.get("upcast_rows", torch.arange(len(golden["feat"])))
    assert_close(out.to_points(2)[rows], golden["flash.upcast_demo"], **TOLERANCE)
    if "flash.upcast_all" in golden:
        assert_close(out.upcast(len(out.stages) - 1), golden["flash.upcast_all"], **TOLERANCE)
    assert_close(out.upcast(0), out.stages[-1].feat, rtol=0, atol=0)
    with pytest.raises(
        ValueError, match=f"levels must be from 0 to {len(out.stages) - 1}, got {len(out.stages)}"
    ):
        out.upcast(len(out.stages))


def test_without_flash_a_single_cloud_is_the_same():
    # The first cloud of b alone; with one cloud both attention semantics agree, but depth follows the batch.
    golden, metadata = read_golden("b")
    count = int(golden["offset"][0])
    cloud = {name: golden[name][:count] for name in ("coord", "grid_coord", "feat")}
    with torch.no_grad():
        out = recipe_network(json.loads(metadata["config"]))(
            **cloud, offset=golden["offset"][:1], max_grid_coord=int(golden["grid_coord"].max())
        )
    for index in range(3):  # deeper stages of the golden run mix in the smaller cloud's patch size
        assert_close(
            out.stages[index].feat,
            golden[f"nonflash.s{index}.feat"][: len(out.stages[index].feat)],
            **TOLERANCE,
        )


def test_curve_codes():
    golden, metadata = read_golden("parts")
    curves = json.loads(metadata["orders"])
    depths = sorted(int(key.split(".")[1][1:]) for key in golden if re.fullmatch(r"code\.d\d+\.code", key))
    assert depths[0] == 1
    assert depths[-1] == 16
    for depth in depths:
        cloud = golden[f"code.d{depth}.batch"].long() << (3 * depth)
        ours = curve_codes(golden[f"code.d{depth}.grid_coord"], depth=depth, curves=curves) | cloud
        assert torch.equal(ours, golden[f"code.d{depth}.code"])
    assert torch.equal(
        curve_codes(golden["curve.d2.grid_coord"], depth=2, curves=curves), golden["curve.d2.code"]
    )


def test_convolution_probe():
    golden, _ = read_golden("parts")
    conv = SubMConv3d(4, 5)
    with torch.no_grad():
        conv.weight.copy_(golden["conv.weight"])
        conv.bias.copy_(golden["conv.bias"])
        cells = golden["conv.grid_coord"]
        pairs = find_neighbours(cells, golden["conv.batch"].long(), max_grid_coord=int(cells.max()))
        ours = conv(golden["conv.x"], pairs)
    assert_close(ours, golden["conv.y"], rtol=0, atol=1e-5)


def test_recipe_of_the_golden_weights():
    golden, _ = read_golden("parts")
    keys = [key for key in golden if key.startswith("recipe.")]
    assert len(keys) == 7
    for key in keys:
        assert torch.equal(
            recipe_weight(key.removeprefix("recipe."), tuple(golden[key].shape)), golden[key]
        ), key


@pytest.mark.parametrize("model", ["concerto_tiny", "concerto_small", "concerto_base", "concerto_large"])
def test_keys_and_shapes_of_published_checkpoints(model):
    entry = read_manifest()[model]
    with torch.device("meta"):
        network = build_ptv3(entry["config"])
    ours = [[key, list(value.shape)] for key, value in network.state_dict().items()]
    assert ours == entry["state_dict"]
    assert sum(value.numel() for value in network.parameters()) == entry["n_parameters"]
    assert network.config.enc_channels[-1] == entry["feature_dims"]["deepest"]
