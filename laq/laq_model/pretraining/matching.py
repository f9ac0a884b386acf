"""Teach attention itself to match views: where a patch of a later view looks, in the first one.

Departure from VGGT (Wang et al. 2025), which learns matching from a tracking head and from poses, over days:
here one head of one global block is told what to attend to. A patch whose middle the first camera sees
between four patches must attend to these four, by bilinear weights, so that the attended place is exact below
the patch size. The truth holds for static points; a moving hand is matched as if it had stood still.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..vggt import VGGT
from ..vggt.rope import frame_rotation, rotate

GUIDED_HEAD = 0
MIN_INSIDE = 0.99  # bilinear weight that lies inside the first view, for a patch to count


class GuidedAttention:
    """Reads one head of one global block during the network's forward pass.

    The block is the last but two, so that two blocks follow which can use the match.
    """

    def __init__(self, network: VGGT):
        config, aggregator = network.config, network.aggregator
        block = f"global_blocks.{max(0, config.depth - 3)}"
        self._aggregator = aggregator
        self._query_and_key: dict[str, Tensor] = {}
        for name, norm in (("query", "q_norm"), ("key", "k_norm")):
            aggregator.get_submodule(f"{block}.attn.{norm}").register_forward_hook(
                lambda module, inputs, output, name=name: self._query_and_key.update({name: output})
            )

    def take(
        self, *, views: int, grid: tuple[int, int]
    ) -> Float[Tensor, "scenes views patches patches_of_first"]:
        """Logarithm of the attention from every patch to each patch of the first view; forgets the pass."""
        query, key = (
            self._query_and_key.pop(name)[:, :, GUIDED_HEAD : GUIDED_HEAD + 1].float()
            for name in ("query", "key")
        )
        special = self._aggregator.num_special_tokens
        table = frame_rotation(
            grid,
            num_special_tokens=special,
            head_channels=query.shape[-1],
            base=self._aggregator.rope_freq,
            device=query.device,
            dtype=query.dtype,
        ).repeat(views)
        query, key = rotate(query, table)[:, :, 0], rotate(key, table)[:, :, 0]
        log_attention = (query @ key.mT / query.shape[-1] ** 0.5).log_softmax(dim=-1)
        of_views = log_attention.unflatten(1, (views, -1))
        return of_views[:, :, special:, special : special + grid[0] * grid[1]]


def match_target(
    flow: Float[Tensor, "scenes views height width 2"], *, grid: tuple[int, int]
) -> tuple[Float[Tensor, "scenes views patches patches_of_first"], Bool[Tensor, "scenes views patches"]]:
    """Bilinear weights of the first view's patches around where it sees each patch's middle; who is inside.

    Args:
        flow: from each pixel to where the first camera sees its point, in image sizes.
        grid: rows and columns of patches.
    """
    rows, columns = grid
    height, width = flow.shape[2:4]
    step_v, step_u = height // rows, width // columns
    middle = flow[:, :, step_v // 2 :: step_v, step_u // 2 :: step_u]
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    seen_row = row.to(middle) + middle[..., 1] * rows
    seen_column = column.to(middle) + middle[..., 0] * columns
    of_row = (1 - (seen_row[..., None] - torch.arange(rows).to(middle)).abs()).clamp(min=0)
    of_column = (1 - (seen_column[..., None] - torch.arange(columns).to(middle)).abs()).clamp(min=0)
    weight = (of_row[..., :, None] * of_column[..., None, :]).flatten(-2).flatten(2, 3)
    return weight, weight.sum(dim=-1) > MIN_INSIDE


def match_loss(
    log_attention: Float[Tensor, "scenes views patches patches_of_first"],
    flow: Float[Tensor, "scenes views height width 2"],
    *,
    grid: tuple[int, int],
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence from target to attention, mean over patches inside; 0 without any."""
    weight, is_inside = match_target(flow, grid=grid)
    divergence = (torch.xlogy(weight, weight) - weight * log_attention).sum(dim=-1)[:, 1:]
    counted = is_inside[:, 1:].to(divergence.dtype)
    return (divergence * counted).sum() / counted.sum().clamp(min=1)
