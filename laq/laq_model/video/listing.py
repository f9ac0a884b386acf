"""Which files of a folder are videos, in an order that does not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DatasetError
from .recorded_geometry import RecordedFolder, is_recorded, open_recorded

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for line in ("webm mp4 m4v mov mkv avi mpg mpeg", "ts mts m2ts wmv flv ogv 3gp y4m")
    for suffix in line.split()
)


@dataclass(frozen=True)
class VideoListing:
    """The files of a folder that should be videos.

    Attributes:
        names: paths relative to the folder, with forward slashes.
        recorded: what index.json says, for a folder in the recorded layout.
        remarks: what was left out or does not apply, in words.
    """

    root: Path
    names: tuple[str, ...]
    recorded: RecordedFolder | None = None
    remarks: tuple[str, ...] = ()


def list_videos(data_dir: str | Path, *, view: str = "") -> VideoListing:
    """Find the videos of a plain folder, or of the views of a recorded one.

    Raises:
        ConfigError: no folder is named.
        DatasetError: no such folder, no video in it, or no such view.
    """
    if not str(data_dir):
        raise ConfigError("give --data_dir DIR, a folder of videos")
    root = Path(data_dir)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"data_dir {root} {kind}; give a folder of videos")
    try:
        if is_recorded(root):
            return _list_recorded(open_recorded(root), view)
        names = tuple(sorted(_video_files(root)))
    except PermissionError as error:
        raise DatasetError(f"{error.filename or root} cannot be read: {error.strerror}") from error
    if not names:
        raise DatasetError(
            f"{root} holds no videos; looked in it and its subfolders for {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    remark = f"a plain folder has no views: --view {view} does not apply"
    return VideoListing(root, names, remarks=(remark,) if view else ())


def _list_recorded(recorded: RecordedFolder, view: str) -> VideoListing:
    """Videos of the episodes of index.json, with the views of an episode side by side."""
    folder = recorded.data_dir
    if view and view not in recorded.views:
        raise DatasetError(f"{folder} has no view {view!r}; it has {', '.join(recorded.views) or 'none'}")
    views = [view] if view else recorded.views
    names = tuple(f"videos/{view}/{episode}.webm" for episode in recorded.num_frames for view in views)
    if not names:
        raise DatasetError(f"{folder}: index.json names no episodes, or there is no folder videos/VIEW")
    known = {f"videos/{view}/{episode}.webm" for episode in recorded.num_frames for view in recorded.views}
    num_others = sum(f"videos/{name}" not in known for name in _video_files(folder / "videos"))
    remark = f"left out because index.json does not name them: {num_others} of the files in videos"
    return VideoListing(folder, names, recorded, remarks=(remark,) if num_others else ())


def _video_files(root: Path) -> Iterator[str]:
    """Files with a video's suffix under ``root``, through links to folders too, each folder once."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        # Hidden files are caches, and the ghosts (._name.mp4) that macOS leaves on other file systems.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".") and path.is_file():
                yield path.relative_to(root).as_posix()
