"""A job of small units, for tests of the engines; other processes import it from here."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from laq_model.errors import VideoReadError


@dataclass(frozen=True)
class SquareJob:
    """Writes the square of each unit, and who did it."""

    folder: str
    seconds: float = 0.0
    fails_at: int = -1

    def load(self, unit: int) -> int:
        if unit == self.fails_at:
            raise VideoReadError(f"unit {unit} is broken")
        return unit * unit

    def make_worker(self):
        def work(unit: int, loaded: int) -> None:
            time.sleep(self.seconds)
            target = Path(self.folder) / f"{unit}.txt"
            temporary = target.with_suffix(".tmp")
            temporary.write_text(f"{loaded} {os.getpid()}")
            temporary.rename(target)

        return work


def squares_in(folder: Path) -> dict[int, int]:
    return {int(path.stem): int(path.read_text().split()[0]) for path in folder.glob("*.txt")}
