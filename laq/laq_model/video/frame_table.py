"""What is known of a video once all of it was decoded: its frames, their times, and where one may seek."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class FrameTable:
    """The frames of one video in presentation order, numbered from 0.

    Attributes:
        num_frames: frames that the decoder gave before the first fault of the file.
        width: pixels of the first frame as a player shows it, after the rotation that the file asks for.
        height: likewise.
        pts: presentation time stamps in units of ``time_base``, strictly increasing; empty where the file
            has none that can be trusted.
        time_base: seconds.
        rate: frames a second that the file claims; times follow from it where ``pts`` is empty.
        keyframes: numbers of frames, besides 0, at which decoding may start; each was tried.
        damage: what is wrong with the file, in words; empty for a sound one.
    """

    num_frames: int
    width: int
    height: int
    pts: array
    time_base: Fraction
    rate: Fraction
    keyframes: array
    damage: str = ""

    def time_s(self, frame_index: int) -> float:
        """Presentation time of a frame, in seconds after the first frame."""
        if len(self.pts):
            return float((int(self.pts[frame_index]) - int(self.pts[0])) * self.time_base)
        return float(frame_index / self.rate)
