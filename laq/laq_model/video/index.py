"""The index of a folder: which videos can be used, which cannot and why. Made once, in parallel; cached."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import DatasetError, VideoReadError
from .config import VideoDataConfig, worker_count
from .frame_table import FrameTable
from .index_cache import DECODER, ScannedVideo, read_cache, write_cache
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
        name: path relative to the data folder, with forward slashes.
        frames: its frames, all decoded once.
    """

    name: str
    frames: FrameTable

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
        return self.root / entry.name

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
        DatasetError: no such folder, no videos, or none that can be used.
    """
    listing = list_videos(config.data_dir, view=config.view)
    videos: list[VideoEntry] = []
    skipped: list[SkippedVideo] = []
    with closing(_scan(listing, config)) as scanned_videos:
        for name, scanned in scanned_videos:
            reason = scanned.reason or _unfit(name, scanned.table, listing, config)
            if scanned.table is None or reason:
                skipped.append(SkippedVideo(name, reason))
            else:
                videos.append(VideoEntry(name, scanned.table))
            if len(videos) == config.max_videos > 0:
                break
    index = VideoIndex(
        root=listing.root,
        videos=tuple(videos),
        skipped=tuple(skipped),
        recorded=listing.recorded,
        remarks=(listing.remark,) if listing.remark else (),
    )
    if not videos:
        raise DatasetError(_nothing_left(index, config))
    return index


def _scan(listing: VideoListing, config: VideoDataConfig) -> Generator[tuple[str, ScannedVideo], None, None]:
    """Every video in order, from the cache or from its file; the cache is kept up to date on the way."""
    cache = read_cache(listing.root)
    stats = {name: _stat(listing.root / name) for name in listing.names}
    new = [
        name
        for name, stat in stats.items()
        if stat is not None and not (name in cache and cache[name].is_of(stat))
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
        for name, stat in stats.items():
            if stat is None:
                yield name, ScannedVideo(0, 0, None, "the file is missing", DECODER)
                continue
            if name in is_new:
                result = next(scans)
                cache[name] = _scanned(result, stat, listing.root / name)
                num_unsaved += 1
                progress.update()
            yield name, cache[name]
            if num_unsaved and time.monotonic() - last_save > SAVE_EVERY_S:
                write_cache(listing.root, cache)
                num_unsaved, last_save = 0, time.monotonic()
    finally:
        progress.close()
        scans.close()
        if num_unsaved:
            write_cache(listing.root, cache)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _scanned(result: FrameTable | VideoReadError, stat: os.stat_result, path: Path) -> ScannedVideo:
    table = result if isinstance(result, FrameTable) else None
    # The name stands before the reason wherever it is printed.
    reason = str(result).removeprefix(f"{path}: ") if table is None else ""
    return ScannedVideo(stat.st_size, stat.st_mtime_ns, table, reason, DECODER)


def _unfit(name: str, table: FrameTable | None, listing: VideoListing, config: VideoDataConfig) -> str:
    """Why a readable video cannot be used with these settings; empty if it can."""
    if table is None:
        return ""
    if listing.recorded:
        claimed = listing.recorded.num_frames[episode_name(name)]
        if claimed != table.num_frames:
            return f"index.json says {claimed} frames, {table.num_frames} can be decoded"
        if table.width * listing.recorded.height != table.height * listing.recorded.width:
            return (
                f"{table.width}x{table.height} pixels, but index.json says "
                f"{listing.recorded.width}x{listing.recorded.height}"
            )
    if table.num_frames <= config.frame_offset:
        return (
            f"{_counted(table.num_frames, 'frame')}: a pair {config.frame_offset} frames apart "
            f"needs {config.frame_offset + 1}"
        )
    return ""


def _nothing_left(index: VideoIndex, config: VideoDataConfig) -> str:
    reasons = "; ".join(f"{video.name}: {video.reason}" for video in index.skipped[:5])
    more = f"; and {len(index.skipped) - 5} more" if len(index.skipped) > 5 else ""
    advice = f", or lower frame_offset {config.frame_offset}" if " frames apart " in reasons else ""
    return f"no video in {index.root} can be used ({reasons}{more}); give other videos{advice}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
