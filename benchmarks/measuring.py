"""What every benchmark says and how it measures: machine, versions, commit, medians, work, memory.

Candidates are timed in turn, round by round, so that a machine that is busy for a while slows all of them.
Wall time is what a user waits; on a CPU the seconds that the process itself computed stand beside it, since
only they mean something on a shared machine.
"""

from __future__ import annotations

import datetime
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# A plain checkout can be measured, and held to the slow twins of its tests.
sys.path[:0] = [str(ROOT / folder) for folder in ("laq", "tests/vggt", "tests/reference")]


@dataclass(frozen=True)
class Timing:
    """Seconds of each round: wall time, and what the process itself computed."""

    wall: tuple[float, ...]
    computing: tuple[float, ...]
    is_on_cpu: bool

    @property
    def rounds(self) -> tuple[float, ...]:
        return self.computing if self.is_on_cpu else self.wall

    @property
    def seconds(self) -> float:
        return median(self.rounds)

    def text(self) -> str:
        """Median, spread, and beside CPU seconds the wall time."""
        waited = f"; wall {median(self.wall):.3f} s" if self.is_on_cpu else ""
        return f"{self.seconds:.3f} s ({min(self.rounds):.3f} to {max(self.rounds):.3f}{waited})"


@dataclass
class Report:
    """Lines that are printed as they come, and written to a dated file if asked for."""

    name: str
    title: str
    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def head(self, *, device: torch.device) -> None:
        self.say(f"# {self.title}")
        self.say()
        for name, value in machine(device).items():
            self.say(f"- {name}: {value}")
        self.say(f"- command: `python {' '.join(sys.argv)}`")
        self.say()

    def save(self) -> None:
        day = datetime.date.today().isoformat()
        path = RESULTS / f"{day}-{self.name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        print(f"→ {path.relative_to(ROOT)}")


def machine(device: torch.device) -> dict[str, str]:
    """What a number depends on besides the code."""
    described = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "processor": f"{_processor()}, {torch.get_num_threads()} thread(s) of {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }
    if device.type == "cuda":
        described["device"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        described["load"] = f"{os.getloadavg()[0]:.1f} when it started; trust ratios more than seconds"
    return described


def commit() -> str:
    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "--", "laq")
    return (ask("rev-parse", "--short", "HEAD") or "no git") + (" with changes" if changed else "")


def time_in_turn(
    candidates: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device, warm_up: int = 1
) -> dict[str, Timing]:
    """Run all candidates in each round; the first ``warm_up`` rounds are not counted."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(warm_up + rounds):
        for name, run in candidates.items():
            _wait(device)
            wall, computing = time.perf_counter(), time.process_time()
            run()
            _wait(device)
            if number >= warm_up:
                seen[name].append((time.perf_counter() - wall, time.process_time() - computing))
    return {
        name: Timing(tuple(wall for wall, _ in pairs), tuple(cpu for _, cpu in pairs), device.type == "cpu")
        for name, pairs in seen.items()
    }


def matmul_rate(
    shapes: list[tuple[int, int, int]], *, dtype: torch.dtype, device: torch.device, rounds: int = 5
) -> float:
    """Multiply-adds (each two operations) per second of plain products of these (rows, in, out) shapes."""
    operands = [
        (
            torch.randn(rows, inner, device=device).to(dtype),
            torch.randn(outer, inner, device=device).to(dtype),
        )
        for rows, inner, outer in shapes
    ]
    work = sum(2 * rows * inner * outer for rows, inner, outer in shapes)
    repeats = max(1, int(1e9 // work)) if device.type == "cpu" else max(1, int(1e12 // work))

    def run() -> None:
        for _ in range(repeats):
            for left, right in operands:
                torch.nn.functional.linear(left, right)

    timing = time_in_turn({"matmul": run}, rounds=rounds, device=device)["matmul"]
    return repeats * work / min(timing.rounds)


def count_work(run: Callable[[], object]) -> int:
    """Operations of matrix products, convolutions and attention, 2 for a multiply-add."""
    with FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_work},
    ) as counter:
        run()
    return counter.get_total_flops()


def _attention_work(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
    batch, heads, queries, width = query
    return 2 * batch * heads * queries * key[2] * (width + value[3])


def peak_memory_gb(device: torch.device) -> float:
    """Largest resident set of the process so far, or what a GPU had allocated at most."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
