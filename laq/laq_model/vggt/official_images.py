"""Read image files exactly as the official project does, for results that can be compared with its own.

Its main loader brings the width (``crop``) or the longer side (``pad``) to 518 pixels; its square loader
pads to a square first. Pillow's bicubic resize antialiases, which torch's does not; the two are no
substitutes. Values are RGB in [0, 1]; mean and deviation belong to the network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import ConfigError, DatasetError

log = logging.getLogger(__name__)

LONG_SIDE_PX = 518  # what VGGT was trained on
PATCH_PX = 14
SQUARE_SIDE_PX = 1024
WHITE = 1.0


def load_images(
    paths: Sequence[str | Path], *, mode: Literal["crop", "pad"] = "crop"
) -> Float[Tensor, "images 3 height width"]:
    """Images by the main loader, padded with white to one size where theirs differ.

    Args:
        paths: image files that Pillow reads; transparency shows white.
        mode: ``crop`` makes each 518 wide and keeps the middle 518 rows of a taller one; ``pad`` makes the
            longer side 518 and pads to a square with white.

    Raises:
        ConfigError: no path, or an unknown mode.
        DatasetError: a file is no image, or so narrow that nothing of it would be left.
    """
    if mode not in ("crop", "pad"):
        raise ConfigError(f"mode must be crop or pad, got {mode!r}")
    if not paths:
        raise ConfigError("no image to load; give at least one path")
    images = [_cropped(path) if mode == "crop" else _padded(path) for path in paths]
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    if any(image.shape[1:] != (height, width) for image in images):
        log.warning("images differ in size; all are padded with white to %d x %d", height, width)
    return torch.stack([_pad_with_white(image, height=height, width=width) for image in images])


def load_square_images(
    paths: Sequence[str | Path], *, side_px: int = SQUARE_SIDE_PX
) -> tuple[Float[Tensor, "images 3 side side"], Float[Tensor, "images 6"]]:
    """Images by the square loader: padded to a square with black, then resized.

    Returns:
        The images, and for each the box of its content and its size in pixels: x1, y1, x2, y2 in the result,
        width and height of the file.

    Raises:
        ConfigError: no path.
        DatasetError: a file is no image.
    """
    if not paths:
        raise ConfigError("no image to load; give at least one path")
    images, boxes = [], []
    for path in paths:
        image = _read_rgb(path)
        side = max(image.size)
        left, top = (side - image.width) // 2, (side - image.height) // 2
        square = Image.new("RGB", (side, side))
        square.paste(image, (left, top))
        images.append(_to_tensor(square.resize((side_px, side_px), Image.Resampling.BICUBIC)))
        factor = side_px / side
        corners = (left, top, left + image.width, top + image.height)
        boxes.append([corner * factor for corner in corners] + [image.width, image.height])
    return torch.stack(images), torch.tensor(boxes, dtype=torch.float32)


def _cropped(path: str | Path) -> Float[Tensor, "3 height width"]:
    image = _read_rgb(path)
    height = _whole_patches(image.height * (LONG_SIDE_PX / image.width), path)
    pixels = _to_tensor(image.resize((LONG_SIDE_PX, height), Image.Resampling.BICUBIC))
    first_row = max(0, (height - LONG_SIDE_PX) // 2)
    return pixels[:, first_row : first_row + LONG_SIDE_PX]


def _padded(path: str | Path) -> Float[Tensor, "3 height width"]:
    image = _read_rgb(path)
    if image.width >= image.height:
        size = (LONG_SIDE_PX, _whole_patches(image.height * (LONG_SIDE_PX / image.width), path))
    else:
        size = (_whole_patches(image.width * (LONG_SIDE_PX / image.height), path), LONG_SIDE_PX)
    pixels = _to_tensor(image.resize(size, Image.Resampling.BICUBIC))
    return _pad_with_white(pixels, height=LONG_SIDE_PX, width=LONG_SIDE_PX)


def _whole_patches(extent_px: float, path: str | Path) -> int:
    """The nearest multiple of a patch, ties to even."""
    patches = round(extent_px / PATCH_PX)
    if not patches:
        raise DatasetError(
            f"{path} is too narrow: resized, its short side would have no patch of {PATCH_PX} pixels"
        )
    return patches * PATCH_PX


def _read_rgb(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            if file.mode == "RGBA":
                white = Image.new("RGBA", file.size, (255, 255, 255, 255))
                return Image.alpha_composite(white, file).convert("RGB")
            return file.convert("RGB")
    except OSError as error:  # a missing file, no image, or a truncated one
        raise DatasetError(f"{path} cannot be read as an image ({error})") from error


def _to_tensor(image: Image.Image) -> Float[Tensor, "3 height width"]:
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return (pixels.to(torch.float32) / 255).permute(2, 0, 1).contiguous()


def _pad_with_white(
    image: Float[Tensor, "3 h w"], *, height: int, width: int
) -> Float[Tensor, "3 height width"]:
    below, right = height - image.shape[1], width - image.shape[2]
    return F.pad(image, (right // 2, right - right // 2, below // 2, below - below // 2), value=WHITE)
