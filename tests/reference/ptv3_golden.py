"""The golden files of the point encoder, and the rule that made their weights from key names."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from laq_model.ptv3 import PointTransformerV3, build_ptv3, load_official_weights

GOLDEN = Path(__file__).parents[1] / "golden"


def read_golden(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(GOLDEN / f"ptv3_golden_{name}.safetensors", framework="pt") as archive:
        return {key: archive.get_tensor(key) for key in archive.keys()}, archive.metadata()  # noqa: SIM118


def read_manifest() -> dict:
    return json.loads((GOLDEN / "ptv3_manifest.json").read_text())["models"]


def recipe_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Weights from the hash of the key; the first rule that fits counts."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if key.endswith("mask_token"):
        value = noise
    elif key.endswith(".gamma"):
        value = np.float32(0.5) + np.float32(0.1) * noise
    elif key.endswith(".bias"):
        value = np.float32(0.1) * noise
    elif len(shape) == 1:
        value = np.float32(1) + np.float32(0.1) * noise
    elif len(shape) == 5:
        value = noise * np.float32(1 / math.sqrt(9 * shape[-1]))
    elif key.endswith("attn.qkv.weight"):
        value = noise * np.float32(1.5 / math.sqrt(shape[1]))
    else:
        value = noise * np.float32(1 / math.sqrt(shape[1]))
    return torch.from_numpy(value)


def recipe_network(config: dict) -> PointTransformerV3:
    network = build_ptv3(config)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    load_official_weights(network, {key: recipe_weight(key, shape) for key, shape in shapes.items()})
    return network


def random_clouds(counts: list[int], *, extent: int, channels: int, seed: int = 0) -> dict[str, Tensor]:
    """Clouds of distinct random cells, in random row order; coordinates and features are random too."""
    generator = torch.Generator().manual_seed(seed)
    cells = []
    for count in counts:
        number = torch.randperm(extent**3, generator=generator)[:count]
        cells.append(torch.stack([number // extent**2, number // extent % extent, number % extent], dim=1))
    total = sum(counts)
    return {
        "coord": torch.randn(total, 3, generator=generator),
        "grid_coord": torch.cat([torch.zeros(0, 3, dtype=torch.long), *cells]),
        "feat": torch.randn(total, channels, generator=generator),
        "offset": torch.tensor(counts).cumsum(0),
    }


def join_clouds(*batches: dict[str, Tensor]) -> dict[str, Tensor]:
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in ("coord", "grid_coord", "feat")}
    return joined | {"offset": torch.tensor([len(batch["feat"]) for batch in batches]).cumsum(0)}
