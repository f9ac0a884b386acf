"""The page of a trained run: the one that ``report``, ``evaluate`` and ``demo`` write.

Each part is there when what it shows is there; what is missing is named, with what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .code_groups import CodedPairs
from .code_use import code_use_section
from .curves import draw_curves
from .evaluation_result import EvaluationResult
from .html_page import Section, page_html
from .output_file import write_file
from .page_sections import Figure, Picture, Words
from .page_viewers import ClipGallery
from .transitions import transition_table

# Metrics that have a curve, in this order, and the level that each must be compared with.
CURVES = ("copy_ratio_hard", "codes_used_fraction", "perplexity", "hard_code_loss", "motion_loss")
CURVE_CONTROLS = {"copy_ratio_hard": 1.0, "motion_loss": 1.0}

LEAD = (
    "A latent action model names what happens between two frames by a few discrete tokens. This page shows "
    "what its tokens tell, each figure beside its controls (an untrained model, too, passes measured motion "
    "on); what the pairs that share a code have in common; and how it was trained."
)


@dataclass(frozen=True)
class RunPage:
    """What is known of a run.

    Attributes:
        metrics: rows of ``metrics.jsonl``.
        evaluation: what ``evaluate`` found; None if it was not measured.
        how_to_evaluate: said in its place.
        told_motion: pictures of what a probe tells against what happened.
        pairs: coded pairs that the model was not trained on, for the use and the order of codes.
        gallery: clips that share a code.
        scene: sections of two frames in one world.
        missing: what could not be shown, and why; a paragraph each.
        limits: what a reader must know; a paragraph each.
        footer: where the figures come from.
    """

    title: str
    lead: str = LEAD
    metrics: Sequence[Mapping[str, Any]] = ()
    evaluation: EvaluationResult | None = None
    how_to_evaluate: str = ""
    told_motion: Sequence[Picture] = ()
    pairs: CodedPairs | None = None
    gallery: ClipGallery | None = None
    scene: Sequence[Section] = ()
    missing: Sequence[str] = ()
    limits: Sequence[str] = ()
    footer: str = ""

    def sections(self) -> list[Section]:
        """In the order of the page: what the tokens tell, what they mean, how they came about, limits."""
        found: list[Section] = [*self.evaluation.probe_tables()] if self.evaluation else []
        if self.evaluation is None and self.how_to_evaluate:
            found.append(Words("What the tokens tell", self.how_to_evaluate))
        if self.told_motion:
            found.append(Figure("Told against true motion", self.told_motion))
        if self.gallery is not None:
            found.append(self.gallery)
        if self.pairs is not None:
            found.append(code_use_section(self.pairs))
            follows = transition_table(self.pairs)
            found += [follows] if follows is not None else []
        found += self.scene
        found += self.evaluation.code_tables() if self.evaluation else []
        found += self._training()
        notes = [*(self.evaluation.notes if self.evaluation else ()), *self.missing]
        found += [Words("Notes", "\n\n".join(notes))] if notes else []
        found += [Words("Known limits", "\n\n".join(self.limits))] if self.limits else []
        return found

    def _training(self) -> list[Section]:
        present = {name for row in self.metrics for name in row}
        shown = [name for name in CURVES if name in present]
        if not shown:
            return []
        warned = [
            f"Step {row['step']}: {row['text']}" for row in self.metrics if row.get("kind") == "warning"
        ]
        text = "\n\n".join(warned) if warned else ""
        return [Figure("Training", draw_curves(self.metrics, metrics=shown, controls=CURVE_CONTROLS), text)]


def write_run_page(path: Path, page: RunPage) -> str:
    """Write the page in one step; gives where it is and how large, in words.

    Raises:
        RunError: the file cannot be written.
    """
    content = page_html(title=page.title, sections=page.sections(), lead=page.lead, footer=page.footer)
    data = content.encode()
    write_file(path, data)
    return f"{path} ({len(data) / 2**20:.1f} MiB)"
