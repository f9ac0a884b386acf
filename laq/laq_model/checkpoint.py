"""One run on disk: its configuration, its metrics, and checkpoints that survive any interruption.

    run.json                     configuration, command line, versions, data manifest
    metrics.jsonl                one row a report
    config.json, model.safetensors   the newest weights, as ``ConcertoLAQ.from_pretrained`` reads them
    checkpoints/step_00000200/   weights, optimiser and step; written under a temporary name, then renamed

The random numbers of a step follow from (seed, step), so a checkpoint needs no generator state.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import __version__
from .concerto_laq import ConcertoLAQ
from .errors import RunError
from .weights import load_strict, read_weights

RUN_FILE = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """Where a run lives. Make one with ``create_run`` or ``open_run``."""

    path: Path
    record: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with, as plain JSON values."""
        return self.record["config"]

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole rows of metrics.jsonl; a last row cut short by a kill is left out."""
        return list(_whole_rows(self.path / "metrics.jsonl"))

    def forget_metrics_after(self, step: int) -> None:
        """Drop rows beyond ``step``: a resumed run will write them again."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step_" + "[0-9]" * 8))

    def save_checkpoint(
        self, model: ConcertoLAQ, optimizer: torch.optim.Optimizer, *, step: int, keep: int
    ) -> None:
        """Save whole or not at all; the older checkpoints go only after the new one stands.

        Raises:
            RunError: the disk is full or not writable; older checkpoints are untouched.
        """
        target = self.path / "checkpoints" / f"step_{step:08d}"
        temporary = target.with_name(target.name + ".tmp")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            model.save_pretrained(temporary)
            torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
            (temporary / "state.json").write_text(json.dumps({"step": step}))
            _flush_to_disk(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            for name in ("config.json", "model.safetensors"):
                staged = self.path / f"{name}.tmp"
                shutil.copyfile(target / name, staged)
                staged.replace(self.path / name)
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
            shutil.rmtree(temporary, ignore_errors=True)
            kept = self.checkpoints()
            rest = f"the checkpoint of {kept[-1].name} is whole" if kept else "no checkpoint was there before"
            raise RunError(
                f"cannot save step {step} in {self.path} ({error}); {rest}. Free space, then go on with --resume"
            ) from error
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the newest checkpoint into model and optimiser; gives its step, 0 when there is none."""
        found = self.checkpoints()
        if not found:
            return 0
        newest = found[-1]
        load_strict(model, read_weights(newest / "model.safetensors").tensors, source=f"{newest}")
        try:
            state = torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True)
            optimizer.load_state_dict(state)
            return int(json.loads((newest / "state.json").read_text())["step"])
        except Exception as error:  # torch raises several kinds for one damaged file
            raise RunError(
                f"checkpoint {newest} is damaged ({error}); delete it and resume from the one before"
            ) from error


def create_run(path: Path, *, config: dict[str, Any], manifest: dict[str, Any]) -> RunFolder:
    """A new run folder.

    Raises:
        RunError: the folder holds another run, or cannot be written.
    """
    if (path / RUN_FILE).exists():
        raise RunError(
            f"{path} holds a run already; continue it with --resume, or choose another --output_dir"
        )
    record = {
        "config": config,
        "command": sys.argv,
        "versions": {
            "concerto_laq": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "data": manifest,
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / RUN_FILE, json.dumps(record, indent=2))
    except OSError as error:
        raise RunError(
            f"cannot write the run folder {path} ({error.strerror}); choose another --output_dir"
        ) from error
    return RunFolder(path, record)


def open_run(path: str | Path) -> RunFolder:
    """The run in this folder.

    Raises:
        RunError: there is none, or its record is damaged.
    """
    path = Path(path)
    file = path / RUN_FILE
    if not file.is_file():
        raise RunError(
            f"{path} is no run folder (it has no {RUN_FILE}); give the --output_dir of a training run"
        )
    try:
        return RunFolder(path, json.loads(file.read_text()))
    except ValueError as error:
        raise RunError(f"{file} is damaged ({error})") from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _flush_to_disk(folder: Path) -> None:
    """Ask the system to write the files now: a rename must not overtake the bytes that it names."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
