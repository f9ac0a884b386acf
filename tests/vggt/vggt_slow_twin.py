"""The slow, obvious twin of VGGT: plain formulas over a state dict, nothing kept, nothing reordered.

Attention writes out its softmax, rotation multiplies complex numbers, position maps visit every pixel, all
layers are kept, and the 1 × 1 convolution of a fusion step comes after its resize.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


class SlowTwin:
    def __init__(self, config: Mapping[str, Any], weights: Weights):
        self.c, self.w = config, weights

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Depth, confidence and pose encoding of [scenes, views, 3, height, width]."""
        layers = self.aggregate(images)
        pose = self.camera(layers[-1][:, :, 0])
        raw = self.depth([layers[layer] for layer in self.c["dpt_layers"]], images.shape[-2:])
        return raw[:, :, 0].exp(), 1 + raw[:, :, 1].exp(), pose

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def conv(self, name: str, x: Tensor, **options: Any) -> Tensor:
        return F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), **options)

    def norm(self, name: str | None, x: Tensor, eps: float) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
        return x if name is None else x * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def block(
        self, name: str, x: Tensor, *, heads: int, eps: float, positions: Tensor | None = None
    ) -> Tensor:
        """``positions`` of the tokens ask for normed and rotated queries and keys."""
        query, key, value = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1", x, eps)).chunk(
            3, dim=-1
        )
        head_outputs = []
        for head in zip(*(part.chunk(heads, dim=-1) for part in (query, key, value)), strict=True):
            q, k, v = head
            if positions is not None and self.c.get("qk_norm", True):
                q, k = self.norm(f"{name}.attn.q_norm", q, eps), self.norm(f"{name}.attn.k_norm", k, eps)
            if positions is not None:
                q, k = self.turned(q, positions), self.turned(k, positions)
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            head_outputs.append(weights @ v)
        attended = self.linear(f"{name}.attn.proj", torch.cat(head_outputs, dim=-1))
        x = x + self.w[f"{name}.ls1.gamma"] * attended
        hidden = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x, eps))
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        return x + self.w[f"{name}.ls2.gamma"] * self.linear(f"{name}.mlp.fc2", hidden)

    def turned(self, x: Tensor, positions: Tensor) -> Tensor:
        halves = []
        for axis, half in enumerate(x.chunk(2, dim=-1)):
            first, second = half.chunk(2, dim=-1)
            pairs = first.shape[-1]
            speed = torch.tensor([self.c["rope_freq"] ** (-j / pairs) for j in range(pairs)], dtype=x.dtype)
            angle = positions[:, axis, None] * speed
            turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
            halves += [turned.real, turned.imag]
        return torch.cat(halves, dim=-1)

    def patch_tokens(self, images: Tensor) -> Tensor:
        name, patch = "aggregator.patch_embed", self.c["patch_size"]
        mean = torch.tensor([0.485, 0.456, 0.406], dtype=images.dtype)[:, None, None]
        deviation = torch.tensor([0.229, 0.224, 0.225], dtype=images.dtype)[:, None, None]
        x = self.conv(f"{name}.patch_embed.proj", (images - mean) / deviation, stride=patch)
        rows, columns = x.shape[-2:]
        stored, side = self.w[f"{name}.pos_embed"], self.c["img_size"] // patch
        grid = stored[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        if (rows, columns) != (side, side):
            grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        x = (x + grid).flatten(2).transpose(1, 2)
        parts = [self.w[f"{name}.cls_token"] + stored[:, :1]]
        if self.c["vit_num_register_tokens"]:
            parts.append(self.w[f"{name}.register_tokens"])
        x = torch.cat([part.expand(len(x), -1, -1) for part in parts] + [x], dim=1)
        for i in range(self.c["vit_depth"]):
            x = self.block(f"{name}.blocks.{i}", x, heads=self.c["vit_num_heads"], eps=1e-6)
        return self.norm(f"{name}.norm", x, 1e-6)[:, 1 + self.c["vit_num_register_tokens"] :]

    def aggregate(self, images: Tensor) -> list[Tensor]:
        scenes, views, _, height, width = images.shape
        patch, specials = self.c["patch_size"], 1 + self.c["num_register_tokens"]
        patches = self.patch_tokens(images.flatten(0, 1)).unflatten(0, (scenes, views))
        x = torch.stack(
            [
                torch.cat(
                    [
                        self.w["aggregator.camera_token"][0, min(view, 1)].expand(scenes, -1, -1),
                        self.w["aggregator.register_token"][0, min(view, 1)].expand(scenes, -1, -1),
                        patches[:, view],
                    ],
                    dim=1,
                )
                for view in range(views)
            ],
            dim=1,
        )
        places = [(0, 0)] * specials
        places += [(r + 1, c + 1) for r in range(height // patch) for c in range(width // patch)]
        positions = torch.tensor(places, dtype=x.dtype)
        layers = []
        for i in range(self.c["depth"]):
            options = {"heads": self.c["num_heads"], "eps": 1e-5}
            in_frame = self.block(
                f"aggregator.frame_blocks.{i}", x.flatten(0, 1), positions=positions, **options
            ).reshape(x.shape)
            x = self.block(
                f"aggregator.global_blocks.{i}",
                in_frame.flatten(1, 2),
                positions=positions.repeat(views, 1),
                **options,
            ).reshape(x.shape)
            layers.append(torch.cat([in_frame, x], dim=-1))
        return layers

    def camera(self, tokens: Tensor) -> Tensor:
        tokens = self.norm("camera_head.token_norm", tokens, 1e-5)
        pose = None
        for _ in range(4):
            seen = (
                self.w["camera_head.empty_pose_tokens"].expand(*tokens.shape[:2], 9) if pose is None else pose
            )
            embedded = self.linear("camera_head.embed_pose", seen)
            modulation = self.linear("camera_head.poseLN_modulation.1", embedded * embedded.sigmoid())
            shift, scale, gate = modulation.chunk(3, dim=-1)
            x = tokens + gate * (self.norm(None, tokens, 1e-6) * (1 + scale) + shift)
            for i in range(self.c["camera_trunk_depth"]):
                x = self.block(f"camera_head.trunk.{i}", x, heads=self.c["camera_num_heads"], eps=1e-5)
            hidden = self.linear("camera_head.pose_branch.fc1", self.norm("camera_head.trunk_norm", x, 1e-5))
            delta = self.linear("camera_head.pose_branch.fc2", F.gelu(hidden))
            pose = delta if pose is None else pose + delta
        return torch.cat([pose[..., :7], pose[..., 7:].clamp(min=0)], dim=-1)

    def depth(self, layers: list[Tensor], image_size: tuple[int, int]) -> Tensor:
        scenes, views = layers[0].shape[:2]
        height, width = image_size
        rows, columns = height // self.c["patch_size"], width // self.c["patch_size"]
        levels = []
        for i, layer in enumerate(layers):
            x = self.norm(
                "depth_head.norm", layer.flatten(0, 1)[:, 1 + self.c["num_register_tokens"] :], 1e-5
            )
            x = self.conv(f"depth_head.projects.{i}", x.transpose(1, 2).unflatten(2, (rows, columns)))
            x = x + position_map(x.shape[1], rows, columns, width / height).to(x.dtype)
            if i < 2:
                name = f"depth_head.resize_layers.{i}"
                x = F.conv_transpose2d(
                    x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], stride=4 if i == 0 else 2
                )
            elif i == 3:
                x = self.conv("depth_head.resize_layers.3", x, stride=2, padding=1)
            levels.append(self.conv(f"depth_head.scratch.layer{i + 1}_rn", x, padding=1))
        x = self.fused(levels)
        x = stretched(self.conv("depth_head.scratch.output_conv1", x, padding=1), (height, width))
        x = x + position_map(x.shape[1], height, width, width / height).to(x.dtype)
        x = self.conv("depth_head.scratch.output_conv2.0", x, padding=1).clamp(min=0)
        return self.conv("depth_head.scratch.output_conv2.2", x).unflatten(0, (scenes, views))

    def fused(self, levels: list[Tensor]) -> Tensor:
        def unit(name: str, x: Tensor) -> Tensor:
            x = x.clamp(min=0)
            return x + self.conv(
                f"{name}.conv2", self.conv(f"{name}.conv1", x, padding=1).clamp(min=0), padding=1
            )

        x = None
        for k in (4, 3, 2, 1):
            name = f"depth_head.scratch.refinenet{k}"
            level = levels[k - 1]
            x = level if x is None else x + unit(f"{name}.resConfUnit1", level)
            finest = (2 * level.shape[-2], 2 * level.shape[-1])
            size = finest if k == 1 else tuple(levels[k - 2].shape[-2:])
            x = self.conv(f"{name}.out_conv", stretched(unit(f"{name}.resConfUnit2", x), size))
        return x


def stretched(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def position_map(channels: int, rows: int, columns: int, aspect: float) -> Tensor:
    """E(channels, rows, columns), pixel by pixel, in float64."""
    k = channels // 4
    diagonal = math.sqrt(aspect**2 + 1)
    result = torch.empty(channels, rows, columns, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            x = aspect / diagonal * (2 * column - (columns - 1)) / columns
            y = 1 / diagonal * (2 * row - (rows - 1)) / rows
            for j in range(k):
                speed = 100 ** (-j / k)
                waves = (math.sin(x * speed), math.cos(x * speed), math.sin(y * speed), math.cos(y * speed))
                for part, wave in enumerate(waves):
                    result[part * k + j, row, column] = 0.1 * wave
    return result
