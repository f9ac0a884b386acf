"""Golden files of VGGT: tensors of the official network with recipe weights, float32 on CPU."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from vggt_weight_recipe import recipe_weights

from laq_model.vggt import VGGT, build_vggt, load_official_weights
from laq_model.vggt.aggregator import normalise

GOLDEN = Path(__file__).parents[1] / "golden"
# Float32 noise is 1e-6 of a tensor's largest value in so small a network; a wrong epsilon or GELU costs more.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Golden:
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        return json.loads(self.metadata["config"])

    def network(self) -> VGGT:
        network = build_vggt(self.config)
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        is_probe = self.metadata.get("recipe_probe") == "true"
        load_official_weights(network, recipe_weights(shapes, is_probe=is_probe))
        return network.eval()


def read_golden(name: str) -> Golden:
    with safe_open(GOLDEN / f"vggt_golden_{name}.safetensors", framework="pt") as archive:
        tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 (not a dict)
        return Golden(tensors, archive.metadata())


def read_manifest() -> dict[str, Any]:
    return json.loads(gzip.decompress((GOLDEN / "vggt_manifest.json.gz").read_bytes()))


def relative_error(ours: Tensor, golden: Tensor) -> float:
    assert ours.shape == golden.shape
    return ((ours - golden).abs().max() / golden.abs().max()).item()


def assert_matches(ours: dict[str, Tensor], golden: dict[str, Tensor]) -> None:
    errors = {name: relative_error(ours[name], golden[name]) for name in golden}
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}


def stages(network: VGGT, images: Tensor) -> dict[str, Tensor]:
    """Every tensor that the golden files name, stage by stage, in the network's own calls."""
    image_size = (images.shape[-2], images.shape[-1])
    with torch.no_grad():
        named = _aggregator_stages(network, images)
        layers = [named[f"agg_layer{layer}"].flatten(0, 1) for layer in network.config.dpt_layers]
        levels = []
        for level, tokens in enumerate(layers):
            named[f"dpt_project{level}"] = network.depth_head.project(level, tokens, image_size=image_size)
            levels.append(
                network.depth_head.pyramid_level(level, named[f"dpt_project{level}"], image_size=image_size)
            )
            named[f"dpt_level{level}"] = levels[-1]
        fused = network.depth_head.fuse(levels)
        named |= {f"dpt_fusion{4 - step}": x for step, x in enumerate(fused)}
        named["dpt_conv1"] = network.depth_head.scratch.output_conv1(fused[-1])
        named["dpt_raw"] = network.depth_head.predict(named["dpt_conv1"], image_size=image_size)
        out = network(images)
        named |= {"depth": out.depth[..., None], "depth_conf": out.depth_conf, "final_pose": out.pose_enc}
    return named


def _aggregator_stages(network: VGGT, images: Tensor) -> dict[str, Tensor]:
    aggregator = network.aggregator
    normalised = normalise(images.flatten(0, 1))
    named = {
        "vit_tokens_in": aggregator.patch_embed.embed(normalised),
        "vit_patch_tokens": aggregator.patch_embed(normalised),
        "agg_tokens_in": aggregator.embed(images),
    }
    layers = aggregator(images, layers=range(network.config.depth))
    named |= {f"agg_layer{layer}": x for layer, x in layers.items()}
    poses = network.camera_head(layers[network.config.depth - 1][:, :, 0])
    return named | {"pose_delta": poses.deltas, "pose_enc": poses.encodings}
