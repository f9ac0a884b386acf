"""Training curves, as small pictures that stay legible on a phone: one metric each."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import RunError
from .page_sections import Picture
from .sheet import INK, MISSING, MUTED

_WIDTH_IN, _HEIGHT_IN, _DPI = 3.6, 2.5, 200
_SHOWN_PX = 360
# Kind of row (training/run_log.py) → how its line looks and is called.
_LINES = {"train": ("#6f6f7c", 1.0, "training"), "held_out": ("#0072b2", 2.0, "held out")}
_NOT_METRICS = {"step", "kind"}


def draw_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    metrics: Sequence[str] = (),
    controls: Mapping[str, float] | None = None,
) -> list[Picture]:
    """One picture for each metric, over steps.

    Args:
        rows: of ``metrics.jsonl``: ``step``, ``kind`` (train or held_out), and metrics by name. Values
            that are absent or not finite leave a gap.
        metrics: which ones, in order; empty for all, in order of first appearance.
        controls: a level drawn as a dashed line for some metrics, such as 1 for a ratio to copying.

    Raises:
        RunError: no rows, or a metric that no row has.
    """
    if not rows:
        raise RunError("the run has no metrics yet; train it for at least --log_every steps")
    present = list(dict.fromkeys(name for row in rows for name in row if name not in _NOT_METRICS))
    missing = [name for name in metrics if name not in present]
    if missing:
        raise RunError(f"the run's metrics have no {', '.join(missing)}; they have {', '.join(present)}")
    return [_curve(name, rows, (controls or {}).get(name)) for name in metrics or present]


def _curve(name: str, rows: Sequence[Mapping[str, Any]], control: float | None) -> Picture:
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    spoken = []
    for kind, (colour, width, label) in _LINES.items():
        points = _points(name, rows, kind)
        finite = [value for _, value in points if not math.isnan(value)]
        if not finite:
            continue
        marker = "o" if len(finite) < 3 else None
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            linewidth=width,
            marker=marker,
            markersize=4,
            label=label,
        )
        spoken.append(f"{label} from {finite[0]:.3g} to {finite[-1]:.3g}")
    if control is not None:
        axes.axhline(control, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"control: {control:g}")
    title = name.replace("_", " ")
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK)
    axes.set_xlabel("step", fontsize=9.5, color=INK)
    axes.tick_params(labelsize=9, colors=MUTED)
    axes.grid(True, color=MISSING, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        # Above the axes, where it hides no line.
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            fontsize=8.5,
            frameon=False,
            labelcolor=INK,
            borderpad=0,
            handlelength=1.5,
        )
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    alt = f"{title} over training steps: {'; '.join(spoken) or 'no finite value'}"
    return Picture(buffer.getvalue(), alt=alt, width_px=_SHOWN_PX)


def _points(name: str, rows: Iterable[Mapping[str, Any]], kind: str) -> list[tuple[float, float]]:
    """Step and value of each row of this kind that has the metric; NaN, which draws no line, for none."""
    points = []
    for row in rows:
        if row.get("kind") == kind and name in row:
            value = row[name]
            is_number = isinstance(value, int | float) and math.isfinite(value)
            points.append((float(row["step"]), float(value) if is_number else math.nan))
    return points
