"""The very pairs that a run was trained on, in the order in which it saw them, found again in its videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import RunError
from ..video.index import VideoEntry, VideoIndex
from ..video.pairs import PairPlan, split_videos
from ..video.recorded_geometry import is_recorded
from ..webm_dataset import VideoDataConfig


@dataclass(frozen=True)
class RunPairs:
    """The training pairs of a run, by (epoch, index), as its own training numbers them.

    Attributes:
        videos: those that it was trained on.
        every_n: frames between the starts of neighbouring pairs of its store; 1 if it had none.
        frame_offset: frames from the current to the future frame.
    """

    videos: tuple[VideoEntry, ...]
    plan: PairPlan
    every_n: int
    frame_offset: int
    seed: int

    def __len__(self) -> int:
        return len(self.plan)

    def draw(self, epoch: int, index: int) -> tuple[int, int]:
        """Number of the video, and of the current frame."""
        video, start = self.plan.draw(index, seed=self.seed, epoch=epoch)
        return video, start * self.every_n


def pairs_of_run(record: Mapping[str, Any], index: VideoIndex) -> RunPairs:
    """Find a run's training pairs in a folder of videos.

    Args:
        record: of the run (``run.json``).
        index: of the folder; it may hold other videos, too.

    Raises:
        RunError: a training video is not there, or has not as many pairs as the run saw.
    """
    config, trained = record["config"], record["data"]["videos"]
    offset = config["data"]["frame_offset"]
    entries = {entry.name: entry for entry in index.videos}
    absent = [name for name in trained if name not in entries]
    if absent:
        raise RunError(
            f"{index.root} lacks {len(absent)} of the {len(trained)} videos that the run was trained on "
            f"({', '.join(absent[:3])}{', ...' if absent[3:] else ''}); rivals are trained on the same ones: "
            "give their folder with --data_dir"
        )
    # A run from a store counts its pairs, a run from videos their frames: each knows what it drew from.
    every_n = every_n_of(record) if config["features"] else 0
    for name, count in trained.items():
        num_starts = entries[name].num_frames - offset
        expected = count if every_n else count - offset
        found = -(-num_starts // every_n) if every_n else num_starts
        if found != expected:
            raise RunError(
                f"{index.root}: {name} gives {found} pairs, but the run was trained on {expected} of it; "
                "rivals need the same videos: give their folder with --data_dir"
            )
    starts = [count if every_n else count - offset for count in trained.values()]
    return RunPairs(
        videos=tuple(entries[name] for name in trained),
        plan=PairPlan(starts, stretch=1 if every_n else offset),
        every_n=every_n or 1,
        frame_offset=offset,
        seed=config["optimization"]["seed"],
    )


def every_n_of(record: Mapping[str, Any]) -> int:
    """Frames between the starts of neighbouring pairs of the store that a run was trained from.

    Raises:
        RunError: the store did not say.
    """
    every_n = record["data"]["tokens"].get("every_n")
    if not every_n:
        raise RunError(
            "rivals are trained on the run's own pairs, and its store does not say which it holds (no "
            "every_n in its store.json); precompute a store, and train from that"
        )
    return int(every_n)


def training_folder(
    record: Mapping[str, Any], own: VideoDataConfig, *, data_dir: str, camera: str
) -> VideoDataConfig:
    """Where a run's videos lie, and how they are read.

    A run from a store need not say that its store was made from one view only; the names tell.

    Args:
        record: of the run (``run.json``).
        own: its own data settings.
        data_dir: where to look if the run's own folder is not on this machine; empty: nowhere.
        camera: of a LeRobot dataset, if the run does not name one.

    Raises:
        RunError: no such folder.
    """
    folder = own.data_dir if own.data_dir and Path(own.data_dir).is_dir() else data_dir
    if not folder:
        raise RunError(
            "rivals are trained on the run's own videos, and "
            + (f"{own.data_dir} is not here" if own.data_dir else "the run does not say where they are")
            + "; give their folder with --data_dir, without --is_new_data"
        )
    views = {PurePosixPath(name).parent.name for name in names_of(record)} if is_recorded(folder) else set()
    return replace(
        own,
        data_dir=folder,
        camera=own.camera or camera,
        view=own.view or (views.pop() if len(views) == 1 else ""),
        max_videos=0,
    )


def names_of(record: Mapping[str, Any]) -> list[str]:
    """All videos of a run: those that it was trained on, then those that were held out."""
    return [*record["data"]["videos"], *record["data"]["held_out"]]


def refuse_other_videos(record: Mapping[str, Any], index: VideoIndex, *, held_out_fraction: float) -> None:
    """Stop before a rival is trained on more videos than the run, or on some that were held out.

    Args:
        index: of as many videos as the run had.

    Raises:
        RunError: the folder would give other training videos than the run's.
    """
    chosen, _ = split_videos((entry.name for entry in index.videos), held_out_fraction)
    differing = sorted(chosen ^ record["data"]["videos"].keys())
    if differing:
        raise RunError(
            f"{index.root} would give other training videos than the run's: {len(differing)} differ "
            f"({', '.join(differing[:3])}{', ...' if differing[3:] else ''}); rivals need the same ones"
        )
