"""Decoding: pairs and whole clips from real video files, and from files of the user's.

python benchmarks/decoding.py                       # the demo pack (VP9, 224 pixels)
python benchmarks/decoding.py --data_dir DIR --pairs 200 --save
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator

import numpy as np
import torch
from measuring import ROOT, Report, time_in_turn

from laq_model.video.config import VideoDataConfig
from laq_model.video.decode import iterate_frames
from laq_model.video.index import VideoIndex, build_index
from laq_model.webm_dataset import PairDataset

DEMO_PACK = ROOT / "laq" / "laq_model" / "embedded" / "demo_pack"


def whole_clips(index: VideoIndex, limit: int) -> Iterator[np.ndarray]:
    """Every frame of the first videos, in order."""
    for entry in index.videos[:limit]:
        for _, frame in iterate_frames(index.path(entry), entry.frames):
            yield frame


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", default=str(DEMO_PACK))
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-decoding.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = VideoDataConfig(data_dir=options.data_dir, num_workers=options.workers, held_out_fraction=0.2)
    report = Report("decoding", "Decoding of pairs and whole clips")
    report.head(device=torch.device("cpu"))
    index = build_index(config)
    dataset = PairDataset(index, config, with_sensor=False)
    picks = [(0, number * 7919 % len(dataset)) for number in range(options.pairs)]
    num_frames = sum(1 for _ in whole_clips(index, options.clips))
    timings = time_in_turn(
        {
            "pairs": functools.partial(dataset.get_many, picks),
            "frames of whole clips": lambda: sum(1 for _ in whole_clips(index, options.clips)),
        },
        rounds=options.rounds,
        device=torch.device("cpu"),
    )
    height, width = next(whole_clips(index, 1)).shape[:2]
    report.say(f"{len(index.videos)} videos of {width} x {height}; {options.workers} worker(s).")
    report.say()
    report.say("| | time | each | a second |")
    report.say("|---|---|---|---|")
    for (name, timing), count in zip(timings.items(), (options.pairs, num_frames), strict=True):
        each = timing.seconds / count
        report.say(f"| {count} {name} | {timing.text()} | {1e3 * each:.2f} ms | {1 / each:.0f} |")
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
