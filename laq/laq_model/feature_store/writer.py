"""Writes the shards that a store lacks. A process that dies loses the shard it was at, nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..durable_files import folder_lock, new_folder, remove_leftovers, write_atomically
from ..errors import ConfigError, DatasetError, RunError
from .layout import (
    SHARDS_FOLDER,
    STORE_FILE,
    Plan,
    Span,
    describe,
    extend_plan,
    fingerprint,
    read_description,
    read_plan,
    refuse_other,
    shard_folder,
    write_plan,
)
from .shard import ShardRecord, ShardWriter, TokenShape, read_record


@dataclass(frozen=True)
class Part:
    """A share of the work: every ``count``-th shard, so that ``count`` machines can write one store."""

    number: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Part:
        """From ``k/n``, with k from 1 to n; an empty text is the whole.

        Raises:
            ConfigError: not of this form.
        """
        if not text:
            return cls()
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ConfigError(f"part must be k/n with k from 1 to n, such as 3/8, got {text!r}")
        return cls(int(number) - 1, int(count))


@dataclass(frozen=True)
class FeatureStoreWriter:
    """A store that this process may write. Make one with ``open_store_writer``."""

    folder: Path
    shape: TokenShape
    fingerprint: str
    plan: Plan
    part: Part

    def missing(self) -> list[tuple[int, list[Span]]]:
        """Number and content of each shard of this part that is not there yet."""
        return [
            (number, list(spans))
            for number, spans in enumerate(self.plan)
            if number % self.part.count == self.part.number and not self.has(number)
        ]

    def has(self, number: int) -> bool:
        """Whether a shard is there, with files of the right sizes."""
        return self._record(number) is not None

    def records(self) -> list[ShardRecord]:
        """Of all shards that are there, those of other parts too."""
        found = (self._record(number) for number in range(len(self.plan)))
        return [record for record in found if record is not None]

    @contextmanager
    def shard(self, number: int) -> Iterator[ShardWriter]:
        """Write one shard; it becomes visible when the block ends without an error.

        Raises:
            RunError: the disk is full or cannot be written; the shards that are there are untouched.
        """
        target = shard_folder(self.folder, number)
        try:
            with (
                new_folder(target) as temporary,
                ShardWriter(temporary, self.shape, fingerprint=self.fingerprint) as writer,
            ):
                yield writer
        except OSError as error:
            raise RunError(
                f"cannot write shard {target} ({error.strerror or error}); the shards before it are whole. "
                "Free space and run again"
            ) from error

    def _record(self, number: int) -> ShardRecord | None:
        try:
            record = read_record(shard_folder(self.folder, number), self.shape)
        except DatasetError:
            return None
        return record if record.fingerprint == self.fingerprint else None


@contextmanager
def open_store_writer(
    folder: str | Path,
    *,
    settings: dict[str, Any],
    shape: TokenShape,
    videos: Iterable[tuple[str, int]],
    shard_pairs: int,
    part: Part | None = None,
) -> Iterator[FeatureStoreWriter]:
    """Make a store, or go on with one, as the only process that writes it (or its part of it).

    Args:
        settings: everything that decides what a token is.
        videos: names, and how many pairs each has; those that the store's plan lacks are added to it.

    Raises:
        RunError: the store has other settings, another process writes it, or the folder cannot be written.
    """
    folder = Path(folder)
    part = part or Part()
    description = describe(settings, shape)
    with ExitStack() as locks:
        try:
            is_alone = part.count == 1
            locks.enter_context(folder_lock(folder, is_shared=not is_alone))
            if is_alone:
                remove_leftovers(folder / SHARDS_FOLDER)
            else:
                name = f".lock-{part.number + 1}-of-{part.count}"
                locks.enter_context(folder_lock(folder, name=name))
            with folder_lock(folder, name=".lock-plan", is_patient=True):
                plan = _agree(folder, description, list(videos), shard_pairs)
        except OSError as error:
            raise RunError(
                f"cannot write the feature store {folder} ({error.strerror}); choose another --output_dir"
            ) from error
        yield FeatureStoreWriter(folder, shape, fingerprint(description), plan, part)


def _agree(
    folder: Path, description: dict[str, Any], videos: list[tuple[str, int]], shard_pairs: int
) -> list[list[Span]]:
    """Description and plan: those of the store, or new ones."""
    header = folder / STORE_FILE
    if header.exists():
        refuse_other(read_description(folder), json.loads(json.dumps(description)), folder)
    else:
        write_atomically(header, json.dumps(description, indent=2))
    known = read_plan(folder)
    plan = extend_plan(known, videos, shard_pairs=shard_pairs)
    if plan != known:
        write_plan(folder, plan)
    return plan
