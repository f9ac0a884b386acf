"""What a run says while it goes: progress, metrics.jsonl, optional trackers, and one summary at the end."""

from __future__ import annotations

import hashlib
import json
from types import TracebackType
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from ..checkpoint import RunFolder
from .config import TrainConfig, as_json


class RunLog:
    """Reports of the main process; on the others it is silent."""

    def __init__(self, run: RunFolder, accelerator: Accelerator, config: TrainConfig, *, first_step: int):
        self._run = run
        self._accelerator = accelerator
        self._config = config
        self._is_main = accelerator.is_main_process
        self._bar = tqdm(
            total=config.optimization.num_steps, initial=first_step, desc="train", disable=not self._is_main
        )
        if accelerator.log_with:
            accelerator.init_trackers(
                "concerto-laq",
                config=_flat(as_json(config)),
                # A resumed run goes on as the same run there. W&B's files stay in the run folder; Trackio
                # keeps all runs in one place of its own, where `trackio show` finds them.
                init_kwargs={
                    "wandb": {"dir": str(run.path), "id": _run_id(run), "resume": "allow"},
                    "trackio": {"name": f"{run.path.name}-{_run_id(run)[:6]}", "resume": "allow"},
                },
            )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._accelerator.log_with:
            self._accelerator.end_training()

    def step(self, step: int, losses: dict[str, float]) -> None:
        """Advance the bar; every ``log_every`` steps write a row."""
        self._bar.update(1)
        if step % self._config.logging.log_every == 0:
            self._bar.set_postfix(loss=f"{losses['loss']:.3f}", hard=f"{losses['hard_code_loss']:.3f}")
            self._write(step, "train", losses)

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Write a row of held-out metrics."""
        self._write(step, "held_out", metrics)
        if self._is_main:
            self._bar.write(f"step {step}: held-out " + readable(metrics))

    def warning(self, step: int, kind: str, text: str) -> None:
        """Say a trouble, and write a row of it."""
        if self._is_main:
            self._run.append_metrics({"step": step, "kind": "warning", "warning": kind, "text": text})
            self._bar.write(f"step {step}: warning: {text}")

    def interrupted(self, step: int, command: str) -> None:
        """What to do after a run was stopped and saved."""
        self._bar.close()
        if self._is_main:
            print(f"stopped after step {step} of {self._config.optimization.num_steps}; saved. Go on with:")
            print(f"  {command}", flush=True)

    def summary(self, held_out: dict[str, float]) -> None:
        """The last word of a run."""
        self._bar.close()
        if self._is_main:
            print(f"trained {self._config.optimization.num_steps} steps; held-out {readable(held_out)}")
            folder = self._config.output_dir
            print(f"run folder: {folder}  (label videos with: --checkpoint {folder})")

    def _write(self, step: int, kind: str, values: dict[str, float]) -> None:
        if self._is_main:
            self._run.append_metrics({"step": step, "kind": kind, **values})
        if self._accelerator.log_with:
            self._accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)


def readable(metrics: dict[str, float]) -> str:
    """Held-out metrics on one line."""
    return (
        f"copy ratio (hard codes) {metrics['copy_ratio_hard']:.3f}, "
        f"codes used {100 * metrics['codes_used_fraction']:.0f} %, perplexity {metrics['perplexity']:.1f}"
    )


def _run_id(run: RunFolder) -> str:
    return hashlib.sha256(json.dumps(run.record, sort_keys=True).encode()).hexdigest()[:16]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names, which is all that some trackers take."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
