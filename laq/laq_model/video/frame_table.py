"""What is known of a video once all of it was decoded: its frames, their times, and where one may seek."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True)
class FrameTable:
    """The frames of one video (a file, or a stretch of one) in presentation order, numbered from 0.

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
        start_pts: where decoding starts to reach the frames before the first of ``keyframes``, for a stretch
            that does not begin at the file's first frame; None: at that.
    """

    num_frames: int
    width: int
    height: int
    pts: array
    time_base: Fraction
    rate: Fraction
    keyframes: array
    damage: str = ""
    start_pts: int | None = None

    def time_s(self, frame_index: int) -> float:
        """Presentation time of a frame, in seconds after the first frame."""
        if len(self.pts):
            return float((int(self.pts[frame_index]) - int(self.pts[0])) * self.time_base)
        return float(frame_index / self.rate)

    def nearest(self, time_s: float) -> int:
        """The frame whose own time stamp is nearest to a time of the file's clock; it needs time stamps."""
        wanted = Fraction(time_s) / self.time_base
        after = bisect_left(self.pts, wanted)
        near = [number for number in (after - 1, after) if 0 <= number < self.num_frames]
        return min(near, key=lambda number: abs(self.pts[number] - wanted))

    def stretch(self, first: int, num_frames: int) -> FrameTable:
        """Neighbouring frames as a video of their own, numbered from 0; the table needs time stamps."""
        end = first + num_frames
        place = bisect_right(self.keyframes, first)
        start = self.keyframes[place - 1] if place else 0
        return replace(
            self,
            num_frames=num_frames,
            pts=self.pts[first:end],
            keyframes=array("q", [number - first for number in self.keyframes if first < number < end]),
            start_pts=int(self.pts[start]) if first else None,
        )
