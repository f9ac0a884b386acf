"""The square frame that a network sees: centre crop, then resize.

The rule of docs/conventions.md: u becomes (u − left + 0.5) · scale − 0.5, so the image's border stays the
border. Depth goes through the same crop in ``recorded_geometry.py``, where pixels are picked, not averaged.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def square_frame(
    rgb: UInt8[np.ndarray, "height width 3"], frame_size: int
) -> UInt8[np.ndarray, "frame_size frame_size 3"]:
    """The middle square, resized by PIL's antialiased bicubic filter, as VGGT's own preprocessing does."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(rgb[top : top + side, left : left + side])
    if side == frame_size:
        return square
    return np.array(Image.fromarray(square).resize((frame_size, frame_size), Image.Resampling.BICUBIC))
