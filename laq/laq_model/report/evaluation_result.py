"""What an evaluation found: flat figures for programs, tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RunError
from .page_sections import Row, Table

# Control's name in a figure's key → what people read.
CONTROL_NAMES = {
    "shuffled_pairs": "trained on shuffled pairs",
    "untrained_model": "untrained model",
    "random_codes": "random codes",
    "pixels": "rival: pixels only, same pairs and budget",
    "camera_frame": "rival: image patches of single frames, same pairs and budget",
    "first_frame": "first frame only (pixels)",
    "pixel_difference": "difference of both frames (pixels)",
}
_SCOPES = {
    "all cameras": "",
    "fixed": "view.fixed.",
    "moving": "view.moving.",
    "fixed → moving": "transfer.fixed_to_moving.",
}
_INPUTS = {
    "probe.linear": "linear probe of the tokens",
    "probe.mlp": "MLP probe of the tokens",
    "probe.linear_onehot": "linear probe of the code numbers",
    "probe.mlp_onehot": "MLP probe of the code numbers",
    "probe.linear_continuous": "linear probe before the quantizer",
    "probe.mlp_continuous": "MLP probe before the quantizer",
}
_TARGETS = {
    "ee_displacement": "the hand's motion",
    "gripper": "the gripper's motion",
    "state_change": "the change of the robot's state",
    "action": "the command",
}


@dataclass(frozen=True)
class EvaluationResult:
    """One run on one data set.

    Attributes:
        figures: flat, by key; a control's twin of KEY is ``control.NAME.KEY``. What could not be measured is
            absent.
        facts: run, model, data, axes, numbers of pairs and episodes: plain JSON values.
        notes: what could not be measured and why, and what looks wrong; one line each.
    """

    figures: Mapping[str, float]
    facts: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)

    def json(self) -> str:
        """Figures, facts and notes in one flat object."""
        plain = {**self.facts, **{key: _finite(value) for key, value in self.figures.items()}}
        return json.dumps({**plain, "notes": list(self.notes)}, indent=1) + "\n"

    def tables(self) -> list[Table]:
        """Headline figures beside their controls, for a page."""
        return [*self.code_tables(), *self.probe_tables()]

    def code_tables(self) -> list[Table]:
        """What needs no truth: how well the codes predict, and how they are used."""
        return [table for table in (self._prediction_table(), self._code_table()) if table.rows]

    def probe_tables(self) -> list[Table]:
        """What a probe reads off the tokens, for each target whose truth was known."""
        found = (self._probe_table(target, title) for target, title in _TARGETS.items())
        return [table for table in found if table.rows]

    def markdown(self) -> str:
        """The tables, as text for a repository."""
        lines = ["# Evaluation", "", *(f"- {name}: {value}" for name, value in self.facts.items()), ""]
        for table in self.tables():
            lines += [f"## {table.title}", "", table.text, ""] if table.text else [f"## {table.title}", ""]
            lines += ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
            for row in table.rows:
                name = f"*control: {row.name}*" if row.is_control else row.name
                lines.append("| " + " | ".join([name, *row.cells]) + " |")
            lines.append("")
        if self.notes:
            lines += ["## Notes", "", *(f"- {note}" for note in self.notes), ""]
        return "\n".join(lines)

    def _prediction_table(self) -> Table:
        rows = []
        for suffix, name in (
            ("", "all places"),
            (".changed", "places that changed most"),
            (".others", "other places"),
            (".network", "network channels"),
            (".geometry", "raw geometry channels"),
            (".motion_small", "pairs of least motion (a third)"),
            (".motion_medium", "pairs of medium motion"),
            (".motion_large", "pairs of most motion"),
        ):
            key = f"copy_ratio_hard{suffix}"
            if key in self.figures:
                rows += [Row(name, [_number(self.figures[key])]), *self._controls(key)]
        return Table(
            "Prediction",
            ["", "error / error of copying"],
            [row for row in rows if not row.is_control or row.cells != ["–"]],
            text="Hard codes, held-out episodes. 0 is perfect, 1 is what copying the current frame gives.",
        )

    def _code_table(self) -> Table:
        names = {
            "codes.used_fraction": "codes used, share of the codebook",
            "codes.perplexity": "perplexity",
            "codes.entropy_bits": "entropy, bits",
            "codes.joint_count": "different combinations",
            "agreement.same_code_fraction": "tokens that both cameras agree on",
            "standstill.still_pairs_fraction": "still pairs with the code of standing still",
            "standstill.same_token_fraction": "tokens that frames with themselves share with it",
            "standstill.acting_pairs_fraction": "acting pairs with the code of standing still",
            "camera.probe.linear.camera_motion.r2_mean": "linear probe of the camera's motion, R² (wanted 0)",
            "camera.probe.mlp.camera_motion.r2_mean": "MLP probe of the camera's motion, R² (wanted 0)",
        }
        positions = sorted(
            key.rsplit(".", 1)[1] for key in self.figures if key.startswith("codes.perplexity.")
        )
        rows = []
        for key, name in names.items():
            if key not in self.figures:
                continue
            each = [_number(self.figures.get(f"{key}.{place}")) for place in positions]
            rows.append(Row(name, [_number(self.figures[key]), *each]))
            chance = self.figures.get(f"control.other_moment.{key}")
            if chance is not None:
                rows.append(Row("another moment", [_number(chance), *("–" for _ in positions)], True))
        return Table("Codes", ["", "all", *(f"token {place}" for place in positions)], rows)

    def _probe_table(self, target: str, title: str) -> Table:
        rows = []
        scopes = {
            name: prefix
            for name, prefix in _SCOPES.items()
            if any(key.startswith(f"{prefix}probe.") for key in self.figures)
        }
        for stem, name in _INPUTS.items():
            key = f"{stem}.{target}.r2_mean"
            if key in self.figures:
                rows.append(Row(name, [self._spread(f"{prefix}{key}") for prefix in scopes.values()]))
                rows += [
                    Row(
                        words,
                        [self._spread(f"control.{control}.{prefix}{key}") for prefix in scopes.values()],
                        True,
                    )
                    for control, words in CONTROL_NAMES.items()
                    if f"control.{control}.{key}" in self.figures
                ]
        return Table(
            f"What the tokens tell of {title}",
            ["R², mean of dimensions", *scopes],
            rows,
            text="Fitted and judged on different episodes. 1 is everything, 0 is what a constant gives; "
            "± is the deviation over fits. A → B: fitted on camera A, judged on camera B.",
        )

    def _controls(self, key: str) -> list[Row]:
        return [
            Row(words, [_number(self.figures.get(f"control.{name}.{key}"))], True)
            for name, words in CONTROL_NAMES.items()
        ]

    def _spread(self, key: str) -> str:
        """An R² and its deviation: two digits, because the third is within the deviation."""
        value = self.figures.get(key)
        if value is None or not math.isfinite(value):
            return "–"
        deviation = self.figures.get(key.removesuffix("r2_mean") + "r2_std")
        # + 0.0: minus zero becomes zero.
        return f"{round(value, 2) + 0.0:.2f}".replace("-", "−") + (
            "" if deviation is None else f" ± {deviation:.2f}"
        )


def read_evaluation(path: Path) -> EvaluationResult:
    """What ``EvaluationResult.json`` wrote.

    Raises:
        RunError: no such file, or no evaluation.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        notes = [str(note) for note in found.pop("notes")]
        is_fact = {key: isinstance(value, str) or key.startswith("num_") for key, value in found.items()}
        return EvaluationResult(
            {key: float(value) for key, value in found.items() if not is_fact[key] and value is not None},
            {key: value for key, value in found.items() if is_fact[key]},
            notes,
        )
    except OSError as error:
        raise RunError(
            f"cannot read {path} ({error.strerror}); give an evaluation.json of evaluate"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is no evaluation.json of evaluate, or damaged ({error!r})") from error


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
