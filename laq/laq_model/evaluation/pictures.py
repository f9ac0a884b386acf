"""Pictures of an evaluation: told motion against true motion, and how often each code is used."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
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


def draw_code_use(codes: Int[Tensor, "pairs positions"], *, codebook_size: int) -> Picture:
    """How many pairs have each code, most used first, one line a position."""
    canvas = Canvas(figsize=(3.6, 2.6), dpi=160, layout="constrained")
    axes = canvas.add_subplot()
    for position, column in enumerate(codes.T):
        counts = torch.bincount(column, minlength=codebook_size).sort(descending=True).values
        heights = counts.clamp(min=0.5).tolist()
        axes.plot(range(1, codebook_size + 1), heights, label=f"token {position}", linewidth=1.2)
    even = len(codes) / codebook_size
    axes.axhline(even, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)), label="even use")
    axes.set_yscale("log")
    axes.set_xlabel("code, most used first", fontsize=9.5)
    axes.set_ylabel("held-out pairs", fontsize=9.5)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=7.5, frameon=False, ncols=2)
    canvas.suptitle("Use of the codes", fontsize=11)
    used = int((torch.bincount(codes.flatten(), minlength=codebook_size) > 0).sum())
    return _picture(canvas, f"how often each code occurs at each token; {used} of {codebook_size} occur")


def _picture(canvas: Canvas, alt: str) -> Picture:
    buffer = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(buffer)
    return Picture(buffer.getvalue(), alt=alt, width_px=_SHOWN_PX)
