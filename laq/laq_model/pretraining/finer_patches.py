"""A network trained with one patch size as the start of one with another: smaller patches, sharper depth.

Source: FlexiViT (Beyer et al. 2023, arXiv 2212.08013), §3.4: if B enlarges a patch, the kernel Bᵀ w says of
the small patch what w says of the enlarged one. So the network begins by seeing each picture enlarged.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PATCHES = "aggregator.patch_embed.patch_embed.proj.weight"
POSITIONS = "aggregator.patch_embed.pos_embed"


def with_patch_size(tensors: Mapping[str, Tensor], *, patch_size: int, img_size: int) -> dict[str, Tensor]:
    """VGGT's tensors with the image transformer's kernel and positions resized, all others as they are.

    Tensors that have this patch size, or are not VGGT's, come back unchanged.
    """
    resized = dict(tensors)
    if PATCHES not in tensors or tensors[PATCHES].shape[-1] == patch_size:
        return resized
    resized[PATCHES] = resize_kernel(tensors[PATCHES].float(), patch_size)
    positions = tensors[POSITIONS].float()
    old = round((positions.shape[1] - 1) ** 0.5)
    new = img_size // patch_size
    grid = positions[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    resized[POSITIONS] = torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    return resized


def resize_kernel(
    kernel: Float[Tensor, "channels colors old old"], patch_size: int
) -> Float[Tensor, "channels colors new new"]:
    """Bᵀ w, where B resizes a patch of ``patch_size`` to the kernel's own, bicubically."""
    enlarge = resize_matrix(patch_size, kernel.shape[-1])
    return torch.einsum("cko,no->ckn", kernel.flatten(2), enlarge).unflatten(2, (patch_size, patch_size))


def resize_matrix(old: int, new: int) -> Float[Tensor, "old_pixels new_pixels"]:
    """Row i: the ``new`` × ``new`` picture of a picture that is 1 at its pixel i and 0 elsewhere."""
    pixels = torch.eye(old * old).view(-1, 1, old, old)
    return F.interpolate(pixels, size=(new, new), mode="bicubic", align_corners=False).flatten(1)
