"""Controls that see pictures only: the first frame alone, and what changes from pixel to pixel.

The first frame shows how much of the motion an appearance betrays; a probe of codes must beat it by far. The
difference of two small pictures is the simplest rival; it is lost where the camera moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..feature_store import PairName
from ..video.index import VideoIndex
from ..webm_dataset import VideoDataConfig, all_pairs

SIDE_PX = 14


def small_frames(
    names: Sequence[PairName], index: VideoIndex, data: VideoDataConfig, *, every_n: int
) -> Float[Tensor, "pairs 2 pixels"] | None:
    """Both frames of each pair as small pictures in [0, 1]; None where a pair's video is not in the folder.

    Raises:
        VideoReadError: a frame that the index promised cannot be decoded.
    """
    row_of = {(name.video, name.current_index): row for row, name in enumerate(names)}
    wanted = {name.video for name in names}
    entries = [entry for entry in index.videos if entry.name in wanted]
    small = torch.full((len(names), 2, 3 * SIDE_PX**2), torch.nan)
    for entry in entries:
        for pair in all_pairs(index, entry, data, every_n=every_n, with_sensor=False):
            row = row_of.get((entry.name, pair.current_index))
            if row is not None:
                frames = pair.frames.permute(0, 3, 1, 2).float() / 255
                small[row] = F.adaptive_avg_pool2d(frames, SIDE_PX).flatten(1)
    return None if bool(small.isnan().any()) else small
