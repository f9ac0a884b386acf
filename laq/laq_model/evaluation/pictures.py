"""Pictures of an evaluation: told motion against true motion."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from ..metrics.probes import r2_per_dimension
from ..report.page_sections import Picture

_BLUE, _INK = "#0072b2", "#1b1b24"
_SHOWN_PX = 360


def draw_told_motion(
    told_m: Float[Tensor, "pairs 3"],
    true_m: Float[Tensor, "pairs 3"],
    *,
    dimensions: Sequence[str],
    title: str,
) -> list[Picture]:
    """One picture for each dimension, in centimetres; a perfect probe lies on the diagonal."""
    pictures = []
    for column, (name, r2) in enumerate(
        zip(dimensions, r2_per_dimension(told_m, true_m).tolist(), strict=True)
    ):
        told, true = 100 * told_m[:, column], 100 * true_m[:, column]
        canvas = Canvas(figsize=(3.4, 3.4), dpi=160, layout="constrained")
        axes = canvas.add_subplot()
        limit = float(torch.cat([told.abs(), true.abs()]).max().clamp(min=0.1)) * 1.05
        axes.plot([-limit, limit], [-limit, limit], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.scatter(true.tolist(), told.tolist(), s=7, alpha=0.45, color=_BLUE, linewidths=0)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        axes.set_xlabel(f"true {name}, cm", fontsize=9.5)
        axes.set_ylabel(f"told {name}, cm", fontsize=9.5)
        axes.tick_params(labelsize=9)
        canvas.suptitle(f"{title}, {name}: R² {r2:.2f}", fontsize=11)
        alt = f"{title}: told against true motion along {name} for {len(told)} held-out pairs, R² {r2:.2f}"
        pictures.append(_picture(canvas, alt))
    return pictures


def _picture(canvas: Canvas, alt: str) -> Picture:
    buffer = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(buffer)
    return Picture(buffer.getvalue(), alt=alt, width_px=_SHOWN_PX)
