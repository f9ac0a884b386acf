"""What lies where in a store's folder, and what it says of itself.

store.json   the description: everything that decides what a token is; and its shape
plan.json    which shard holds which pairs of which videos; new videos are added at the end, nothing is moved
shards/      one folder a shard, by number
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..durable_files import write_atomically
from ..errors import DatasetError, RunError
from .shard import TokenShape

FORMAT = 2
STORE_FILE, PLAN_FILE, SHARDS_FOLDER = "store.json", "plan.json", "shards"


@dataclass(frozen=True)
class Span:
    """Neighbouring pairs of one video, counted from its first pair."""

    video: str
    first_pair: int
    num_pairs: int


Plan = Sequence[Sequence[Span]]


def shard_folder(store: Path, number: int) -> Path:
    """Where the shard of this number lies."""
    return store / SHARDS_FOLDER / f"{number:06d}"


def describe(settings: dict[str, Any], shape: TokenShape) -> dict[str, Any]:
    """The content of store.json."""
    return {"format": FORMAT, "num_tokens": shape.num_tokens, "channels": shape.channels, **settings}


def fingerprint(description: dict[str, Any]) -> str:
    """Equal for equal descriptions; every shard carries it."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_description(store: Path) -> dict[str, Any]:
    """The content of store.json.

    Raises:
        DatasetError: there is none, or it is of another version.
    """
    file = store / STORE_FILE
    if not file.is_file():
        raise DatasetError(f"{store} is no feature store (it has no {STORE_FILE}); make one with precompute")
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{file} is damaged ({error})") from error
    if description.get("format") != FORMAT:
        raise DatasetError(
            f"{store} has store format {description.get('format')}, this version reads {FORMAT}; "
            "run precompute into a new folder"
        )
    return description


def token_shape(description: dict[str, Any]) -> TokenShape:
    """The shape of the tokens of a store with this description."""
    return TokenShape(num_tokens=description["num_tokens"], channels=description["channels"])


def differences(found: dict[str, Any], wanted: dict[str, Any], *, prefix: str = "") -> list[str]:
    """What two descriptions disagree about, one readable part for each setting."""
    parts = []
    for name in sorted({*found, *wanted}):
        there, now = found.get(name), wanted.get(name)
        if isinstance(there, dict) and isinstance(now, dict):
            parts += differences(there, now, prefix=f"{prefix}{name}.")
        elif there != now:
            parts.append(f"{prefix}{name} is {there!r} there and {now!r} now")
    return parts


def refuse_other(found: dict[str, Any], wanted: dict[str, Any], store: Path) -> None:
    """Stop before anything is read from, or written into, a store of other data, weights or settings.

    Raises:
        RunError: the descriptions differ; the message says in what.
    """
    parts = differences(found, wanted)
    if parts:
        raise RunError(
            f"{store} was made with other settings: {'; '.join(parts)}. Give the flags it was made with, "
            "or choose another folder"
        )


def read_plan(store: Path) -> list[list[Span]]:
    """Which pairs each shard holds; empty before the first plan.

    Raises:
        DatasetError: the plan is damaged.
    """
    file = store / PLAN_FILE
    if not file.exists():
        return []
    try:
        shards = json.loads(file.read_text(encoding="utf-8"))
        return [[Span(*span) for span in shard] for shard in shards]
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{file} is damaged ({error})") from error


def write_plan(store: Path, plan: Plan) -> None:
    """Replace the plan."""
    shards = [[[span.video, span.first_pair, span.num_pairs] for span in shard] for shard in plan]
    lines = ",\n".join(json.dumps(shard, ensure_ascii=False) for shard in shards)
    write_atomically(store / PLAN_FILE, f"[\n{lines}\n]\n")


def extend_plan(plan: Plan, videos: Iterable[tuple[str, int]], *, shard_pairs: int) -> list[list[Span]]:
    """Add shards for (video, pairs) that the plan lacks: whole videos, until a shard has ``shard_pairs``.

    A longer video is cut. The same videos in the same order give the same plan.
    """
    known = {span.video for shard in plan for span in shard}
    extended = [list(shard) for shard in plan]
    shard: list[Span] = []
    for video, num_pairs in videos:
        if video in known:
            continue
        if shard and sum(span.num_pairs for span in shard) + num_pairs > shard_pairs:
            extended.append(shard)
            shard = []
        for first in range(0, num_pairs, shard_pairs):
            shard.append(Span(video, first, min(shard_pairs, num_pairs - first)))
            if num_pairs - first > shard_pairs:
                extended.append(shard)
                shard = []
    return [*extended, shard] if shard else extended
