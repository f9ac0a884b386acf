"""One run on disk: its configuration, its metrics, and checkpoints that survive any interruption.

    run.json                     configuration, command line, versions, data manifest
    metrics.jsonl                one row a report
    config.json, model.safetensors   the newest weights, as ``ConcertoLAQ.from_pretrained`` reads them
    checkpoints/step_00000200/   weights, optimiser and step; written under a temporary name, then renamed

The random numbers of a step follow from (seed, step), so a checkpoint needs no generator state.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn

from . import __version__
from .action_model.saved_model import save_model
from .durable_files import folder_lock, new_folder, remove_folder, remove_leftovers, write_atomically
from .errors import RunError
from .weights import load_strict, read_weights

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class RunFolder:
    """Where a run lives. Make one with ``create_run`` or ``open_run``."""

    path: Path
    record: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was started with, as plain JSON values."""
        return self.record["config"]

    @property
    def trained_videos(self) -> frozenset[str]:
        """Names of the videos that the run was trained on."""
        return frozenset(self.record["data"].get("videos", {}))

    def lock(self) -> AbstractContextManager[None]:
        """Be the only process that trains in this folder.

        Raises:
            RunError: another process does.
        """
        return folder_lock(self.path)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to metrics.jsonl.

        Raises:
            RunError: the disk is full or not writable.
        """
        try:
            with (self.path / METRICS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"cannot write {self.path / METRICS_FILE} ({error.strerror}); {self._what_is_kept()}. "
                "Free space, then go on with --resume"
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """All whole rows of metrics.jsonl; a last row cut short by a kill is left out."""
        return list(_whole_rows(self.path / METRICS_FILE))

    def start_from(self, step: int) -> None:
        """Clear away what an interrupted run left beyond ``step``: a resumed run writes its rows again."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        try:
            remove_leftovers(self.path)
            remove_leftovers(self.path / "checkpoints")
            write_atomically(self.path / METRICS_FILE, "".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise RunError(f"cannot write the run folder {self.path} ({error.strerror})") from error

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step_" + "[0-9]" * 8))

    def save_checkpoint(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        step: int,
        notes: dict[str, Any],
        keep: int,
    ) -> None:
        """Save whole or not at all; the older checkpoints go only after the new one stands.

        Args:
            model: its ``config`` is a dataclass, and saved with it.
            notes: plain JSON values that a resumed run needs.
            keep: how many checkpoints stay, the new one among them.

        Raises:
            RunError: the disk is full or not writable; older checkpoints are untouched.
        """
        target = self.path / "checkpoints" / f"step_{step:08d}"
        try:
            with new_folder(target) as temporary:
                save_model(temporary, model, cast(Any, model.config), with_card=False)
                torch.save(optimizer.state_dict(), temporary / "optimizer.pt")
                (temporary / "state.json").write_text(json.dumps({"step": step, "notes": notes}))
            for name in ("config.json", "model.safetensors"):
                staged = self.path / f"{name}.tmp"
                shutil.copyfile(target / name, staged)
                staged.replace(self.path / name)
            for old in self.checkpoints()[:-keep]:
                remove_folder(old)
        except (OSError, RuntimeError, SafetensorError) as error:  # the writers' words for a full disk
            raise RunError(
                f"cannot save step {step} in {self.path} ({_first_line(error)}); "
                f"{self._what_is_kept()}. Free space, then go on with --resume"
            ) from error

    def load_checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[int, dict[str, Any]]:
        """Put the newest checkpoint into model and optimiser; gives step and notes, (0, {}) if there is none.

        Raises:
            RunError: it is damaged, or of another model.
            WeightsError: it is of another configuration.
        """
        found = self.checkpoints()
        if not found:
            return 0, {}
        newest = found[-1]
        rest = "delete it, and --resume goes on from the one before" if found[1:] else "start anew"
        try:
            tensors = read_weights(newest / "model.safetensors").tensors
            optimizer_state = torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True)
            state = json.loads((newest / "state.json").read_text())
            step, notes = int(state["step"]), state["notes"]
        except Exception as error:  # torch raises several kinds for one damaged file
            raise RunError(f"checkpoint {newest} is damaged ({_first_line(error)}); {rest}") from error
        load_strict(model, tensors, source=f"the weights of checkpoint {newest}")
        try:
            optimizer.load_state_dict(optimizer_state)
        except (ValueError, KeyError) as error:
            raise RunError(
                f"checkpoint {newest} is of another model or optimiser ({_first_line(error)}); {rest}"
            ) from error
        return step, notes

    def _what_is_kept(self) -> str:
        kept = self.checkpoints()
        return f"the checkpoint {kept[-1].name} is whole" if kept else "no checkpoint was there before"


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


def find_run(path: str | Path) -> RunFolder | None:
    """The run in this folder; None where it holds something else, such as a published model.

    Raises:
        RunError: the run's record is damaged.
    """
    return open_run(path) if (Path(path) / RUN_FILE).is_file() else None


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
