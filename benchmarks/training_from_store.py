"""A training step of the default model from a feature store: pairs a second, memory, and the loader's share.

    python benchmarks/training_from_store.py                       # --preset tiny's tokens, dim 512, batch 64
    python benchmarks/training_from_store.py --tokens 196          # as many places a frame as 14 x 14 patches
    python benchmarks/training_from_store.py --channels 1102 --precision bf16
    python benchmarks/training_from_store.py --follow_memory 2000     # a tiny model on 200 000 pairs

Tokens are random; what a step costs does not depend on them. Times are of the processor, which other programs
disturb least: a core-second is a second of one core. Plain products of the step's largest shape are timed
before and after, to say what share of what the processor can do was reached.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from feature_store import resident_mb, write_store
from measuring import count_work, matmul_rate

from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig
from laq_model.feature_store import TokenShape
from laq_model.structures import GEOMETRY_CHANNELS
from laq_model.training.config import OptimizationConfig
from laq_model.training.optimizer import build_optimizer
from laq_model.training.pair_source import StorePairs, picks_of_step
from laq_model.training.step import rows_of_process, take_step

WARM_UP_STEPS = 1
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


def time_steps(options: argparse.Namespace) -> None:
    shape = TokenShape(options.tokens, options.channels)
    config = OptimizationConfig(
        batch_size=options.batch_size, micro_batch_size=options.micro_batch_size, num_steps=1000
    )
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), 1024, shape)
        source = StorePairs(store, held_out_fraction=0.1, device=torch.device("cpu"))
        model = ConcertoLAQ(
            ConcertoLAQConfig(
                dim=options.dim,
                feature_channels=options.channels - GEOMETRY_CHANNELS,
                num_changed_tokens=options.places,
                num_context_tokens=options.places,
                num_query_tokens=options.places * 2 // 3,
            )
        )
        optimizer = build_optimizer(model, config)
        accelerator = Accelerator(cpu=True, mixed_precision=options.precision)
        turns = rows_of_process(0, config)
        before, before_rate = resident_mb(), product_rate(options)
        load_s, step_s, wall_s = [], [], []  # the first two in core-seconds

        def run(step: int) -> dict[str, float]:
            picks = picks_of_step(step, batch_size=options.batch_size, num_train=source.num_train, seed=0)
            start, start_wall = time.process_time(), time.perf_counter()
            loaded = [source.load_train(picks[rows.first : rows.first + rows.count]) for rows in turns]
            load_s.append(time.process_time() - start)
            pairs = [(rows, source.tokens(part)) for rows, part in zip(turns, loaded, strict=True)]
            losses, _ = take_step(
                model, optimizer, pairs, accelerator, config, step=step, is_reported=options.is_reported
            )
            step_s.append(time.process_time() - start)
            wall_s.append(time.perf_counter() - start_wall)
            return losses

        work = count_work(lambda: run(0))
        for step in range(WARM_UP_STEPS, WARM_UP_STEPS + options.steps):
            losses = run(step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    rate = (before_rate + product_rate(options)) / 2
    load_s, step_s, wall_s = (times[WARM_UP_STEPS:] for times in (load_s, step_s, wall_s))
    median = statistics.median(step_s)
    print(f"dim {options.dim}, batch {options.batch_size} in turns of {turns[0].count}, {options.precision}")
    print(f"  tokens                {shape.num_tokens} x {shape.channels}")
    print(f"  pairs a core-second   {options.batch_size / median:.2f}")
    print(f"  pairs a second        {options.batch_size / statistics.median(wall_s):.2f} by the clock")
    print(f"  step                  {median:.2f} core-seconds ({min(step_s):.2f} to {max(step_s):.2f})")
    print(
        f"  products              {work / options.batch_size / 1e9:.1f} GFLOP a pair, "
        f"{work / median / rate:.0%} of the {rate / 1e9:.0f} GFLOP/s a core of plain products"
    )
    print(f"  loader                {100 * statistics.median(load_s) / median:.2f} % of the step")
    print(f"  memory                {before:.0f} MB before the first step, {peak:.0f} MB at the peak")
    print(f"  loss of the last step {losses['loss']:.4f}")


def product_rate(options: argparse.Namespace) -> float:
    """Operations a core-second of the products of an MLP's first layer over the tokens of a turn."""
    rows = 2 * (options.places + 1) * (options.micro_batch_size or options.batch_size)
    shape = (rows, options.dim, 4 * options.dim)
    return matmul_rate([shape], dtype=DTYPES[options.precision], device=torch.device("cpu"))


def follow_memory(num_steps: int) -> None:
    """Train for real, in a process of its own, and look at its memory from outside."""
    with tempfile.TemporaryDirectory() as folder:
        store, run = Path(folder) / "store", Path(folder) / "run"
        write_store(store, 200_000, TokenShape(8, 26))
        flags = {
            **{
                "features": store,
                "output_dir": run,
                "num_steps": num_steps,
                "batch_size": 64,
                "device": "cpu",
            },
            **{"dim": 32, "num_heads": 2, "spatial_depth": 1, "temporal_depth": 1, "predictor_depth": 1},
            **{"codebook_size": 32, "quantizer_dim": 8, "log_every": 10, "save_every": num_steps},
            **{"eval_every": num_steps // 4},
        }
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        script = Path(__file__).parents[1] / "laq" / "train_concerto_laq.py"
        process = subprocess.Popen(
            [sys.executable, str(script), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        marks = [round(share * num_steps) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
        sizes = []
        while process.poll() is None and marks:
            time.sleep(0.2)
            if steps_of(run) >= marks[0]:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
                print(f"  after step {marks.pop(0):6d}   {sizes[-1]:8.1f} MB")
        process.wait()
        growth = 100 * (max(sizes) / min(sizes) - 1)
        print(f"  largest over smallest: {growth:+.1f} %; exit status {process.returncode}")


def steps_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return 10 * sum('"train"' in line for line in file.read_text().splitlines()) if file.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--channels", type=int, default=286)
    parser.add_argument("--places", type=int, default=48, help="places read; two thirds as many are asked")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--micro_batch_size", type=int, default=8)
    parser.add_argument("--precision", default="no", choices=["no", "bf16"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--is_reported", action="store_true", help="steps whose losses a run would log")
    parser.add_argument("--follow_memory", type=int, default=0, help="train for so many steps instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}")
    if options.follow_memory:
        follow_memory(options.follow_memory)
    else:
        time_steps(options)


if __name__ == "__main__":
    main()
