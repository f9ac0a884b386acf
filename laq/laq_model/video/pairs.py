"""Which videos train, and which two frames make a pair. Pure: equal arguments give equal answers."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import PurePosixPath


def split_videos(names: Iterable[str], held_out_fraction: float) -> tuple[frozenset[str], frozenset[str]]:
    """Names for training and names held out, decided by a hash of the name alone.

    So a video stays on its side whatever other videos come or go. Views of one episode
    (``videos/VIEW/NAME.webm`` of the recorded layout) share a side: they show the same action. Of two or more
    episodes at least one is on each side; a single one is for training.
    """
    share = {name: _share_of(_episode(name)) for name in names}
    threshold = held_out_fraction
    if len(set(share.values())) > 1:
        threshold = min(max(threshold, _just_above(min(share.values()))), max(share.values()))
    elif share:
        threshold = 0.0
    held_out = frozenset(name for name, value in share.items() if value < threshold)
    return frozenset(share) - held_out, held_out


@dataclass(frozen=True)
class PairPlan:
    """The numbered pairs of an epoch over several videos.

    Each video's possible starts are cut into stretches of ``stretch`` neighbouring starts (the last may be
    shorter), and every stretch gives one pair an epoch. So long videos give more pairs, an epoch covers
    every video evenly, and ``stretch=1`` lists every pair once.

    Attributes:
        num_starts: possible starts in each video: its frames minus the offset.
        stretch: starts of which an epoch takes one.
    """

    num_starts: Sequence[int]
    stretch: int

    def __post_init__(self) -> None:
        counts = [-(-starts // self.stretch) for starts in self.num_starts]
        object.__setattr__(self, "_ends", list(accumulate(counts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0  # type: ignore[attr-defined]

    def draw(self, index: int, *, seed: int, epoch: int) -> tuple[int, int]:
        """(video number, start frame) of a pair; the start is random in its stretch, fixed by the arguments.

        Raises:
            IndexError: no such pair.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} pairs, so no pair {index}")
        ends: list[int] = self._ends  # type: ignore[attr-defined]
        video = bisect_right(ends, index)
        first = (index - (ends[video - 1] if video else 0)) * self.stretch
        choices = min(self.stretch, self.num_starts[video] - first)
        return video, first + seeded_choice(choices, seed=seed, epoch=epoch, index=index)


def seeded_choice(choices: int, *, seed: int, epoch: int, index: int) -> int:
    """A number below ``choices`` that follows from the other arguments, on every machine and version."""
    if choices == 1:
        return 0
    digest = hashlib.blake2b(f"{seed}:{epoch}:{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % choices


def _episode(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if len(path.parts) == 3 and path.parts[0] == "videos" else name


def _share_of(episode: str) -> float:
    """Evenly spread over [0, 1) and fixed by the name."""
    return int.from_bytes(hashlib.sha256(episode.encode()).digest()[:6], "big") / 2**48


def _just_above(share: float) -> float:
    return share + 2.0**-48
