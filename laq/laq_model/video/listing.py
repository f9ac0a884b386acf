"""Which files of a folder are videos, in an order that does not depend on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, DatasetError
from ..lerobot.dataset import (
    EpisodeVideo,
    LeRobotDataset,
    choose_camera,
    is_lerobot,
    open_lerobot,
    read_episodes,
)
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
        lerobot: what info.json says, for a LeRobot dataset.
        camera: of a LeRobot dataset, the one whose videos these are.
        episodes: of a LeRobot dataset, those that lie in each file.
        remarks: what was left out or does not apply, in words.
    """

    root: Path
    names: tuple[str, ...]
    recorded: RecordedFolder | None = None
    lerobot: LeRobotDataset | None = None
    camera: str = ""
    episodes: Mapping[str, Sequence[EpisodeVideo]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def list_videos(data_dir: str | Path, *, view: str = "", camera: str = "") -> VideoListing:
    """Find the videos of a plain folder, of a recorded one's views, or of one camera of a LeRobot dataset.

    Raises:
        ConfigError: no folder is named.
        DatasetError: no such folder, no video in it, or no such view or camera.
    """
    if not str(data_dir):
        raise ConfigError("give --data_dir DIR, a folder of videos")
    root = Path(data_dir)
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"data_dir {root} {kind}; give a folder of videos")
    try:
        if is_lerobot(root):
            return _list_lerobot(open_lerobot(root), view, camera)
        if is_recorded(root):
            return _list_recorded(open_recorded(root), view, camera)
        names = tuple(sorted(_video_files(root)))
    except PermissionError as error:
        raise DatasetError(f"{error.filename or root} cannot be read: {error.strerror}") from error
    if not names:
        raise DatasetError(
            f"{root} holds no videos; looked in it and its subfolders for {' '.join(sorted(VIDEO_SUFFIXES))}"
        )
    remarks = [f"a plain folder has no views: --view {view} does not apply"] if view else []
    return VideoListing(root, names, remarks=(*remarks, *_no_cameras(camera)))


def _no_cameras(camera: str) -> list[str]:
    return [f"only LeRobot datasets have cameras: --camera {camera} does not apply"] if camera else []


def _list_lerobot(dataset: LeRobotDataset, view: str, wanted: str) -> VideoListing:
    """The files of one camera, in the order of their episodes."""
    camera = choose_camera(dataset, wanted)
    episodes: dict[str, list[EpisodeVideo]] = {}
    for episode in read_episodes(dataset, camera):
        episodes.setdefault(episode.file, []).append(episode)
    if not episodes:
        raise DatasetError(f"{dataset.root} has no episodes")
    remarks = [f"LeRobot dataset, camera {camera} of {', '.join(dataset.cameras)}"]
    if view:
        remarks.append(f"a LeRobot dataset has cameras, no views: --view {view} does not apply")
    return VideoListing(
        dataset.root,
        tuple(episodes),
        lerobot=dataset,
        camera=camera,
        episodes=episodes,
        remarks=tuple(remarks),
    )


def _list_recorded(recorded: RecordedFolder, view: str, camera: str) -> VideoListing:
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
    left_out = f"left out because index.json does not name them: {num_others} of the files in videos"
    remarks = [left_out] if num_others else []
    return VideoListing(folder, names, recorded, remarks=(*remarks, *_no_cameras(camera)))


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
