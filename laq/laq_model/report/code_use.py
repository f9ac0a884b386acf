"""How often the codes are used: in words, and as a picture."""

from __future__ import annotations

import io

import torch
from jaxtyping import Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from ..metrics.codebook import code_usage
from .code_groups import CodedPairs
from .page_sections import Figure, Picture
from .sheet import INK

_SHOWN_PX = 360


def code_use_section(pairs: CodedPairs) -> Figure:
    """Used codes and perplexity at each token, and a curve for each."""
    usage = code_usage(pairs.codes, codebook_size=pairs.codebook_size)
    each = "; ".join(
        f"token {position} uses {used * pairs.codebook_size:.0f} (perplexity {perplexity:.0f})"
        for position, (used, perplexity) in enumerate(
            zip(usage.position_used_fraction, usage.position_perplexity, strict=True)
        )
    )
    text = (
        f"{len(pairs.codes)} pairs of {len({name.video for name in pairs.names})} videos. Of "
        f"{pairs.codebook_size} codes {100 * usage.used_fraction:.0f} % occur: {each}. "
        f"{usage.num_joint} different combinations of all tokens."
    )
    return Figure("Use of the codes", [draw_code_use(pairs.codes, codebook_size=pairs.codebook_size)], text)


def draw_code_use(codes: Int[Tensor, "pairs positions"], *, codebook_size: int) -> Picture:
    """How many pairs have each code, most used first, one line a position."""
    canvas = Canvas(figsize=(3.6, 2.6), dpi=160, layout="constrained")
    axes = canvas.add_subplot()
    for position, column in enumerate(codes.T):
        counts = torch.bincount(column, minlength=codebook_size).sort(descending=True).values
        heights = counts.clamp(min=0.5).tolist()
        axes.plot(range(1, codebook_size + 1), heights, label=f"token {position}", linewidth=1.2)
    even = len(codes) / codebook_size
    axes.axhline(even, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="even use")
    axes.set_yscale("log")
    axes.set_xlabel("code, most used first", fontsize=9.5)
    axes.set_ylabel("pairs", fontsize=9.5)
    axes.tick_params(labelsize=9)
    axes.legend(fontsize=7.5, frameon=False, ncols=2)
    canvas.suptitle("Use of the codes", fontsize=11)
    used = int((torch.bincount(codes.flatten(), minlength=codebook_size) > 0).sum())
    buffer = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(buffer)
    alt = f"how often each code occurs at each token; {used} of {codebook_size} occur"
    return Picture(buffer.getvalue(), alt=alt, width_px=_SHOWN_PX)
