"""Is a store whole? Finds missing, truncated, damaged and foreign shards, without changing anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from ..durable_files import TEMPORARY_SUFFIX
from ..errors import DatasetError
from .layout import SHARDS_FOLDER, fingerprint, read_description, read_plan, shard_folder, token_shape
from .npy_stream import checksum
from .shard import read_pairs, read_record


@dataclass(frozen=True)
class VerifyConfig:
    """Look for missing, truncated, damaged and foreign shards of a feature store."""

    store: tyro.conf.Positional[Path] = Path("features")
    """The store's folder."""
    quick: bool = False
    """Compare sizes only, instead of reading every byte."""


@dataclass(frozen=True)
class StoreReport:
    """What was found.

    Attributes:
        problems: shard and fault, in the order of the shards.
        skipped: videos without pairs, and why; no fault of the store.
    """

    num_shards: int
    num_pairs: int
    problems: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]


def verify_store(store: str | Path, *, quick: bool = False) -> StoreReport:
    """Look at every shard.

    Raises:
        DatasetError: the folder is no feature store, or its plan cannot be read.
    """
    store = Path(store)
    description = read_description(store)
    plan = read_plan(store)
    num_pairs = 0
    problems: list[tuple[str, str]] = []
    skipped: list[tuple[str, str]] = []
    for number, spans in enumerate(tqdm(plan, desc="verify", unit="shard", leave=False)):
        folder = shard_folder(store, number)
        if not folder.exists():
            problems.append((folder.name, "missing"))
            continue
        try:
            record = read_record(folder, token_shape(description))
            if record.fingerprint != fingerprint(description):
                raise DatasetError("foreign: it is of another store")
            videos = set(read_pairs(folder, record)["video"].to_pylist())
            videos |= {video for video, _ in record.skipped}
            if videos != {span.video for span in spans}:
                raise DatasetError("foreign: it holds other videos than the plan says")
            if not quick:
                for name, expected in record.crc32.items():
                    if checksum(folder / name) != expected:
                        raise DatasetError(f"{name} has other content than was written")
        except DatasetError as error:
            problems.append((folder.name, str(error)))
        else:
            num_pairs += record.num_pairs
            skipped += record.skipped
    planned = {shard_folder(store, number).name for number in range(len(plan))}
    for folder in sorted((store / SHARDS_FOLDER).glob("*")):
        if folder.name.endswith(TEMPORARY_SUFFIX):
            problems.append((folder.name, "left by an interrupted run; precompute removes it"))
        elif folder.name not in planned:
            problems.append((folder.name, "foreign: not in the plan"))
    return StoreReport(len(plan), num_pairs, tuple(problems), tuple(skipped))


def verify(config: VerifyConfig) -> StoreReport:
    """The command: prints what was found.

    Raises:
        DatasetError: the store is not whole, or the folder is no feature store.
    """
    report = verify_store(config.store, quick=config.quick)
    for shard, fault in report.problems:
        print(f"shard {shard}: {fault}")
    for video, reason in report.skipped:
        print(f"skipped video {video}: {reason}")
    if report.problems:
        raise DatasetError(
            f"{len(report.problems)} faults in the {report.num_shards} shards of {config.store}; "
            "delete those shards and run precompute again, which writes what is missing"
        )
    print(f"{config.store}: all {report.num_shards} shards are whole, {report.num_pairs} pairs")
    return report
