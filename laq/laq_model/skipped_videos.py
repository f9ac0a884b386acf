"""Videos that a job could not use: listed with their reasons, and not too many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .durable_files import write_atomically
from .errors import DatasetError

Skipped = Sequence[tuple[str, str]]  # video, reason


def write_skipped(path: Path, skipped: Skipped) -> None:
    """One JSON line a video; no file where none was skipped."""
    if not skipped:
        path.unlink(missing_ok=True)
        return
    lines = [json.dumps({"video": video, "reason": reason}, ensure_ascii=False) for video, reason in skipped]
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def refuse_too_many_skipped(skipped: Skipped, *, num_videos: int, max_share: float) -> None:
    """A few broken videos are normal; many mean that something is wrong with the data or the machine.

    Args:
        num_videos: usable or not.

    Raises:
        DatasetError: more than ``max_share`` of the videos were skipped.
    """
    names = {video for video, _ in skipped}
    if len(names) > max_share * num_videos:
        video, reason = skipped[0]
        raise DatasetError(
            f"{len(names)} of {num_videos} videos cannot be used (the first: {video}: {reason}); "
            f"max_skipped_share allows {max_share:g}. Repair the data, or raise it"
        )
