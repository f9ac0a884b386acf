"""Frames of single pairs, read again where they are shown: as a clip, and as two views of one scene."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..feature_store import PairName
from ..geometry_source import GeometrySource
from ..scene_observation import SceneObservation, observe_scenes
from ..video.decode import read_frames
from ..video.index import VideoIndex
from ..video.recorded_views import read_sensor
from ..video.square import square_frame

MAX_CLIP_FRAMES = 8  # of a pair that is farther apart, the frames between are thinned


class PairFrames:
    """The videos that pairs are of."""

    def __init__(self, index: VideoIndex):
        self.index = index
        self._entries = {entry.name: entry for entry in index.videos}

    def has(self, name: PairName) -> bool:
        """Whether the pair's video is there, with both its frames."""
        return name.video in self._entries and name.future_index < self._entries[name.video].num_frames

    def clip(self, name: PairName, *, side_px: int) -> UInt8[Tensor, "frames side_px side_px 3"]:
        """From the current to the future frame, both included.

        Raises:
            VideoReadError: a frame cannot be decoded.
        """
        apart = name.future_index - name.current_index
        numbers = np.linspace(name.current_index, name.future_index, min(apart + 1, MAX_CLIP_FRAMES))
        return self._squares(name.video, [round(number) for number in numbers], side_px)

    def scene(
        self,
        name: PairName,
        source: GeometrySource,
        config: EncoderConfig,
        *,
        frame_size: int,
        device: torch.device | str = "cpu",
    ) -> SceneObservation:
        """Both frames in one world, as the encoder of this configuration sees them; on the CPU or ``device``.

        Raises:
            LAQError: a frame cannot be decoded, or the scene has no point.
        """
        numbers = [name.current_index, name.future_index]
        recorded = None
        if config.geometry != "vggt" and self.index.recorded is not None:
            recorded = read_sensor(self.index.recorded, name.video, numbers, frame_size=frame_size)
        frames = self._squares(name.video, numbers, frame_size).permute(0, 3, 1, 2).float() / 255
        return observe_scenes(source, frames[None].to(device), recorded, config=config)

    def _squares(self, video: str, numbers: list[int], side_px: int) -> UInt8[Tensor, "frames side side 3"]:
        entry = self._entries[video]
        pictures = read_frames(self.index.path(entry), entry.frames, numbers)
        return torch.from_numpy(np.stack([square_frame(picture, side_px) for picture in pictures]))
