"""The index of a folder: which videos can be used, which cannot and why. Made once, in parallel; cached."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import DatasetError
from .clips import clips_of
from .config import VideoDataConfig, worker_count
from .frame_table import FrameTable
from .index_cache import FileState, ScannedVideo, read_cache, write_cache
from .listing import VideoListing, list_videos
from .recorded_geometry import RecordedFolder, episode_name
from .scan_workers import scan_videos

# A long indexing that is interrupted loses no more than this.
SAVE_EVERY_S = 60.0
LINES_IN_SUMMARY = 20


@dataclass(frozen=True)
class VideoEntry:
    """A usable video.

    Attributes:
        name: path relative to the data folder, with forward slashes; of an episode of a LeRobot dataset,
            videos/CAMERA/episode_000000.
        frames: its frames, all decoded once.
        file: the file that it lies in, if that is not called like it.
    """

    name: str
    frames: FrameTable
    file: str = ""

    @property
    def num_frames(self) -> int:
        """Frames that can be decoded."""
        return self.frames.num_frames


@dataclass(frozen=True)
class SkippedVideo:
    """A file that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class VideoIndex:
    """What a folder holds.

    Attributes:
        videos: usable ones, in the order of their names (recorded layout: of the episodes).
        skipped: the others.
        recorded: what index.json says, for a folder in the recorded layout.
        remarks: what else the user should know.
    """

    root: Path
    videos: tuple[VideoEntry, ...]
    skipped: tuple[SkippedVideo, ...]
    recorded: RecordedFolder | None = None
    remarks: tuple[str, ...] = ()

    def path(self, entry: VideoEntry) -> Path:
        """The video's file."""
        return self.root / (entry.file or entry.name)

    def summary(self) -> str:
        """Counts, then every skipped or damaged file with its reason (the first twenty of each)."""
        frames = sum(entry.num_frames for entry in self.videos)
        lines = [f"{self.root}: {_counted(len(self.videos), 'video')} with {frames} frames"]
        if self.recorded:
            lines[0] += f", recorded layout ({', '.join(self.recorded.views)})"
        lines += self.remarks
        damaged = [f"  {e.name}: {e.frames.damage}" for e in self.videos if e.frames.damage]
        for title, found in (
            ("skipped", [f"  {video.name}: {video.reason}" for video in self.skipped]),
            ("damaged, used as far as it can be decoded", damaged),
        ):
            if found:
                lines += [f"{_counted(len(found), 'video')} {title}:", *found[:LINES_IN_SUMMARY]]
            if len(found) > LINES_IN_SUMMARY:
                lines.append(f"  ... and {len(found) - LINES_IN_SUMMARY} more")
        return "\n".join(lines)


def build_index(config: VideoDataConfig) -> VideoIndex:
    """Index ``config.data_dir``; only videos that are new or changed since the last time are decoded.

    Raises:
        ConfigError: no folder is named.
        DatasetError: no such folder, no videos, or none that can be used.
    """
    listing = list_videos(config.data_dir, view=config.view, camera=config.camera)
    videos: list[VideoEntry] = []
    skipped: list[SkippedVideo] = []
    with closing(_scanned_files(listing, config)) as scanned:
        clips = ((file, *clip) for file, found in scanned for clip in clips_of(listing, file, found))
        for file, name, frames in clips:
            reason = frames if isinstance(frames, str) else _unfit(name, frames, listing, config)
            if isinstance(frames, str) or reason:
                skipped.append(SkippedVideo(name, reason))
            else:
                videos.append(VideoEntry(name, frames, "" if file == name else file))
            if len(videos) == config.max_videos > 0:
                break
    index = VideoIndex(
        root=listing.root,
        videos=tuple(videos),
        skipped=tuple(skipped),
        recorded=listing.recorded,
        remarks=listing.remarks,
    )
    if not videos:
        raise DatasetError(_nothing_left(index, config))
    return index


def _scanned_files(
    listing: VideoListing, config: VideoDataConfig
) -> Generator[tuple[str, FrameTable | str], None, None]:
    """Every file in order with its frames or why it has none; from the cache while the file is the same.

    What could not be read is tried again each time: a disk or a decoder may have been to blame.
    """
    cache = read_cache(listing.root)
    states = {name: _state(listing.root / name) for name in listing.names}
    new = [
        name for name, state in states.items() if state and (name not in cache or cache[name].file != state)
    ]
    scans = scan_videos(
        [listing.root / name for name in new],
        workers=worker_count(config.num_workers),
        patience_s=config.decoder_patience_s,
    )
    is_new = set(new)
    num_unsaved, last_save = 0, time.monotonic()
    progress = tqdm(total=len(new), desc="index", unit="video", leave=False, disable=None if new else True)
    try:
        for name, state in states.items():
            if state is None:
                yield _printable(name), "the file is missing, or its name is not UTF-8"
            elif name not in is_new:
                yield name, cache[name].frames
            else:
                result = next(scans)
                progress.update()
                if isinstance(result, FrameTable):
                    cache[name] = ScannedVideo(state, result)
                    num_unsaved += 1
                    yield name, result
                else:
                    # The name stands before the reason wherever it is printed.
                    yield name, str(result).removeprefix(f"{listing.root / name}: ")
            if num_unsaved and time.monotonic() - last_save > SAVE_EVERY_S:
                write_cache(listing.root, cache)
                num_unsaved, last_save = 0, time.monotonic()
    finally:
        progress.close()
        scans.close()
        if num_unsaved:
            write_cache(listing.root, cache)


def _state(path: Path) -> FileState | None:
    """The file's state, or None if there is no file that can be named in a cache and a table of results."""
    try:
        str(path).encode()
        return FileState.of(path)
    except (OSError, UnicodeEncodeError):
        return None


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()


def _unfit(name: str, frames: FrameTable, listing: VideoListing, config: VideoDataConfig) -> str:
    """Why a readable video cannot be used with these settings; empty if it can."""
    damage = f"; {frames.damage}" if frames.damage else ""
    if listing.recorded:
        claimed = listing.recorded.num_frames[episode_name(name)]
        if claimed != frames.num_frames:
            return f"index.json says {claimed} frames, {frames.num_frames} can be decoded{damage}"
        height, width = listing.recorded.height, listing.recorded.width
        if frames.width * height != frames.height * width:
            return f"{frames.width}x{frames.height} pixels, but index.json says {width}x{height}"
    if frames.num_frames <= config.frame_offset:
        return (
            f"{_counted(frames.num_frames, 'frame')}, but a pair {config.frame_offset} frames apart "
            f"needs {config.frame_offset + 1}{damage}"
        )
    return ""


def _nothing_left(index: VideoIndex, config: VideoDataConfig) -> str:
    names_of: dict[str, list[str]] = {}
    for video in index.skipped:
        names_of.setdefault(video.reason, []).append(video.name)
    told = [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in names_of.items()
    ]
    reasons = "; ".join(told[:5])
    more = f"; and {len(told) - 5} other reasons" if len(told) > 5 else ""
    advice = f", or lower frame_offset {config.frame_offset}" if " frames apart " in reasons else ""
    return f"no video in {index.root} can be used ({reasons}{more}); give other videos{advice}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
