"""The videos that a file holds: itself, or the episodes of a LeRobot dataset that lie in it."""

from __future__ import annotations

from collections.abc import Iterator

from ..lerobot.dataset import EpisodeVideo, clip_name
from .frame_table import FrameTable
from .listing import VideoListing


def clips_of(
    listing: VideoListing, file: str, frames: FrameTable | str
) -> Iterator[tuple[str, FrameTable | str]]:
    """Name and frames of each; or the reason why it has none, as ``frames`` may be for the whole file."""
    if listing.lerobot is None:
        yield file, frames
        return
    for episode in listing.episodes[file]:
        found = (
            f"{file}: {frames}"
            if isinstance(frames, str)
            else _episode_frames(episode, frames, fps=listing.lerobot.fps)
        )
        yield clip_name(listing.camera, episode.number), found


def _episode_frames(episode: EpisodeVideo, frames: FrameTable, *, fps: float) -> FrameTable | str:
    """The stretch that begins at the episode's time stamp, once it is known to be the episode."""
    if not len(frames.pts):
        return f"{episode.file}: has no time stamps that can be trusted, so no episode can be found in it"
    if episode.num_frames < 1:
        return f"has {episode.num_frames} frames"
    first = frames.nearest(episode.from_s)
    last = first + episode.num_frames - 1
    if last >= frames.num_frames:
        damage = f"; {frames.damage}" if frames.damage else ""
        return (
            f"needs frames {first} to {last} of {episode.file}, of which the first {frames.num_frames} "
            f"can be decoded{damage}"
        )
    for number, wanted_s in (
        (first, episode.from_s),
        (last, episode.from_s + (episode.num_frames - 1) / fps),
    ):
        at_s = float(frames.pts[number] * frames.time_base)
        if abs(at_s - wanted_s) > 0.5 / fps:
            return (
                f"frame {number - first} should be at {wanted_s:.3f} s of {episode.file}, but the nearest is "
                f"at {at_s:.3f} s; meta/episodes and the video disagree"
            )
    return frames.stretch(first, episode.num_frames)
