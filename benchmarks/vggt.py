"""VGGT: seconds a frame, share of the measured matrix product rate, memory.

    python benchmarks/vggt.py                                  # VGGT-1B's sizes, random weights, 224 pixels
    python benchmarks/vggt.py --size 518 --views 1 2 --save
    python benchmarks/vggt.py --device cuda --views 8 --scenes 4 --save

Weights are random: time and memory do not depend on their values. The work is counted from the operations
that run. The rate it is compared with is that of plain products of the aggregator's own shapes. On a CPU the
peak memory is that of the process so far, so the smaller type goes first.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator

import torch
from measuring import Report, count_work, matmul_rate, peak_memory_gb, time_in_turn
from published_sizes import random_vggt

from laq_model.geometry_source.vggt_source import DTYPES
from laq_model.vggt import VGGT


def measure(
    network: VGGT, dtype: torch.dtype, options: argparse.Namespace, device: torch.device
) -> Iterator[str]:
    """The rest of a row of the table for each number of views."""
    runs = {
        views: functools.partial(
            network, torch.rand(options.scenes, views, 3, options.size, options.size, device=device)
        )
        for views in options.views
    }
    with torch.no_grad():
        work = {views: count_work(run) for views, run in runs.items()}  # warms up, too
        timings = time_in_turn(runs, rounds=options.rounds, device=device, warm_up=0)
    for views, timing in timings.items():
        rate = work[views] / timing.seconds
        rows = options.scenes * views * (1 + 4 + (options.size // 14) ** 2)
        shapes = [(rows, 1024, 3072), (rows, 1024, 1024), (rows, 1024, 4096), (rows, 4096, 1024)]
        best = matmul_rate(shapes, dtype=dtype, device=device)
        yield (
            f"| {options.scenes} × {views} | {work[views] / 1e12:.3f} | {timing.text()} | {rate / 1e9:.0f} | "
            f"{rate / best:.0%} of {best / 1e9:.0f} GFLOP/s | {peak_memory_gb(device):.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=224, help="height and width in pixels")
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2], help="views of a scene")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"], choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-vggt.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    report = Report("vggt", f"VGGT-1B at {options.size} pixels, {device.type}")
    report.head(device=device)
    report.say(
        "| type | scenes × views | work, TFLOP | time | GFLOP/s | of the product rate | peak memory, GB |"
    )
    report.say("|---|---|---|---|---|---|---|")
    for name in options.dtypes:
        network = random_vggt({}, dtype=DTYPES[name], device=device)
        for line in measure(network, DTYPES[name], options, device):
            report.say(f"| {name} {line}")
        del network
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
