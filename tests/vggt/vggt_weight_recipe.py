"""Weights of the golden files: drawn for each key from a generator seeded by its name; none are stored."""

import hashlib
import re
from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

TOKENS = {
    "cls_token",
    "register_tokens",
    "mask_token",
    "pos_embed",
    "camera_token",
    "register_token",
    "empty_pose_tokens",
}
# Keys that the probe variant shrinks until every norm's input has a variance near the norm's epsilon.
PROBED = re.compile(
    r"(tokens?|pos_embed|\.gamma)$"
    r"|^aggregator\.patch_embed\.(patch_embed\.proj|norm)\."
    r"|^aggregator\.(frame|global)_blocks\.\d+\.attn\.qkv\."
    r"|^camera_head\.(token_norm|poseLN_modulation\.1)\."
)
PROBE_FACTOR = 0.004


def recipe_weights(
    shapes: Mapping[str, torch.Size], *, tag: str = "", is_probe: bool = False
) -> dict[str, Tensor]:
    return {key: _recipe_tensor(key, shape, tag=tag, is_probe=is_probe) for key, shape in shapes.items()}


def _recipe_tensor(key: str, shape: torch.Size, *, tag: str, is_probe: bool) -> Tensor:
    seed = int.from_bytes(hashlib.sha256((tag + key).encode()).digest()[:8], "little")
    normal = np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)
    scale, offset = _scale_and_offset(key, shape)
    if is_probe and PROBED.search(key):
        scale, offset = scale * PROBE_FACTOR, offset * PROBE_FACTOR
    return torch.from_numpy(normal * np.float32(scale) + np.asarray(offset, dtype=np.float32))


def _scale_and_offset(key: str, shape: torch.Size) -> tuple[float, float | np.ndarray]:
    last = key.rpartition(".")[2]
    if key == "camera_head.pose_branch.fc2.bias":
        return 0.02, np.array([0.0] * 6 + [0.25] * 3)
    if last in TOKENS or last in ("gamma", "bias"):
        return {"gamma": (0.1, 0.5), "bias": (0.1, 0.0)}.get(last, (0.5, 0.0))
    if len(shape) == 1:
        return 0.1, 1.0
    is_transposed = key.endswith(("resize_layers.0.weight", "resize_layers.1.weight"))
    scale = (shape[0] if is_transposed else prod(shape[1:])) ** -0.5
    return (0.25 * scale if key == "camera_head.pose_branch.fc2.weight" else scale), 0.0
