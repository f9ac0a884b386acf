"""The slow, obvious twin of the whole point encoder: plain formulas over a state dict, points in loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import ptv3_twins as twins
import torch
from torch import Tensor


class SlowNetwork:
    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]):
        self.c = config
        self.w = {key: value.double().numpy() for key, value in weights.items()}

    def __call__(
        self,
        *,
        coord: Tensor,
        grid_coord: Tensor,
        feat: Tensor,
        offset: Tensor,
        max_grid_coord: int | None,
        mask: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        """For each stage: feat, coord, grid_coord, pooling_inverse."""
        ends = offset.tolist()
        clouds = [sum(row >= end for end in ends) for row in range(len(feat))]
        cells = [tuple(cell) for cell in grid_coord.tolist()]
        bound = max(max(cell) for cell in cells) if max_grid_coord is None else max_grid_coord
        x = gelu(self.norm("embedding.stem.norm", self.linear("embedding.stem.linear", feat.numpy())))
        if mask is not None:
            x[mask.numpy()] = self.w["embedding.mask_token"][0]
        place = coord.numpy()
        stages = []
        for stage in range(len(self.c["enc_depths"])):
            inverse = None
            if stage:
                stride = self.c["stride"][stage - 1]
                projected = self.linear(f"enc.enc{stage}.down.proj", x)
                parents, inverse, largest, _ = twins.pool(projected, cells, clouds, stride)
                place = twins.pool(place, cells, clouds, stride)[3]
                x = gelu(self.norm(f"enc.enc{stage}.down.norm.0", largest))
                clouds, cells = [parent[0] for parent in parents], [parent[1:] for parent in parents]
                bound //= stride
            x = self.blocks(stage, x, cells, clouds, bound)
            stages.append(
                {
                    "feat": torch.from_numpy(x.copy()),
                    "coord": torch.from_numpy(place),
                    "grid_coord": torch.tensor(cells),
                    "pooling_inverse": None if inverse is None else torch.tensor(inverse),
                }
            )
        return stages

    def blocks(
        self, stage: int, x: np.ndarray, cells: list[tuple[int, ...]], clouds: list[int], bound: int
    ) -> np.ndarray:
        depth = math.floor(math.log2(bound + 1)) + 1
        curves = [self.c["order"]] if isinstance(self.c["order"], str) else self.c["order"]
        counts = [clouds.count(cloud) for cloud in range(max(clouds) + 1)]
        keys_of = twins.queries_and_keys(counts, self.c["enc_patch_size"][stage])
        heads = self.c["enc_num_head"][stage]
        for block in range(self.c["enc_depths"][stage]):
            name = f"enc.enc{stage}.block{block}"
            conv = twins.sparse_conv(
                x, cells, clouds, self.w[f"{name}.cpe.0.weight"], self.w[f"{name}.cpe.0.bias"]
            )
            x = x + self.norm(f"{name}.cpe.2", self.linear(f"{name}.cpe.1", conv))
            curve = curves[block % len(curves)]
            code = [twins.curve_code(curve, list(cell), depth) for cell in cells]
            order = sorted(range(len(x)), key=list(zip(clouds, code, strict=True)).__getitem__)
            x = x + self.attention(name, x, keys_of, order, heads=heads)
            hidden = gelu(self.linear(f"{name}.mlp.0.fc1", self.norm(f"{name}.norm2.0", x)))
            x = x + self.scale(f"{name}.ls2.0.gamma") * self.linear(f"{name}.mlp.0.fc2", hidden)
        return x

    def attention(
        self, name: str, x: np.ndarray, keys_of: dict[int, list[int]], order: list[int], *, heads: int
    ) -> np.ndarray:
        qkv = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1.0", x))
        if self.c["qk_scale"] is not None:
            # The twin divides by the root of a head's width; another scale goes into the queries.
            qkv[:, : x.shape[1]] *= self.c["qk_scale"] * math.sqrt(x.shape[1] // heads)
        attended = twins.attend(qkv, keys_of, order, heads)
        return self.scale(f"{name}.ls1.0.gamma") * self.linear(f"{name}.attn.proj", attended)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
        return x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def scale(self, key: str) -> np.ndarray | float:
        return self.w.get(key, 1.0)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
