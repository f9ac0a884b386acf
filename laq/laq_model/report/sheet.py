"""A sheet of panels as PNG: matplotlib by its objects (no pyplot, no display), the same looks everywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .pointcloud_view import Side

# Inches. A panel is a square picture with room for labels at its left and bottom, and a title above it.
PICTURE_IN, LEFT_IN, RIGHT_IN, ABOVE_IN, BELOW_IN = 3.3, 0.7, 0.2, 0.35, 0.7
SHEET_TITLE_IN = 0.45
DPI = 110
Colour = str | tuple[float, float, float]
INK, MUTED, MISSING = "#1c1c22", "#5a5a66", "#d8d8de"


class Sheet:
    """A grid of panels of one size, filled row by row."""

    def __init__(self, title: str, *, rows: int, columns: int):
        self._columns = columns
        self._size_in = np.array(
            [
                columns * (LEFT_IN + PICTURE_IN + RIGHT_IN),
                rows * (ABOVE_IN + PICTURE_IN + BELOW_IN) + SHEET_TITLE_IN,
            ]
        )
        self._figure = Figure(figsize=tuple(self._size_in), dpi=DPI)
        self._num_panels = 0
        middle = 1 - SHEET_TITLE_IN / 2 / self._size_in[1]
        self._figure.text(LEFT_IN / self._size_in[0], middle, title, color=INK, fontsize=14, va="center")

    def image(self, title: str, image: Float[np.ndarray, "height width 3"]) -> None:
        """A picture, RGB in [0, 1], pixels as they are."""
        axes = self._next(title)
        # Rounded here: matplotlib would cut off.
        axes.imshow((image.clip(0, 1) * 255).round().astype(np.uint8), interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])

    def map(
        self,
        title: str,
        values: Float[np.ndarray, "height width"],
        *,
        is_valid: Bool[np.ndarray, "height width"],
        unit: str,
        colours: str,
    ) -> None:
        """A map of numbers with its colour bar: 1st to 99th percentile, invalid pixels grey."""
        axes = self._next(title)
        low, high = np.percentile(values[is_valid], [1, 99]) if is_valid.any() else (0.0, 1.0)
        if high - low < 1e-6 * abs(high):  # one value: the middle of a range about it
            low, high = low - 0.5, high + 0.5
        shown = axes.imshow(
            np.ma.masked_array(values, ~is_valid),
            cmap=colours,
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        axes.set_facecolor(MISSING)
        axes.set_xticks([])
        axes.set_yticks([])
        bar_axes = axes.inset_axes((0.0, -0.07, 1.0, 0.03))
        bar = self._figure.colorbar(shown, cax=bar_axes, orientation="horizontal")
        bar.set_label(unit, color=INK, fontsize=10)
        bar.ax.tick_params(labelsize=9, colors=INK)
        bar.outline.set_visible(False)

    def cloud(
        self, picture: UInt8[np.ndarray, "size size 3"], side: Side, *, half_width: float, unit: str
    ) -> None:
        """A cloud's picture with its two axes."""
        axes = self._next(side.name)
        axes.imshow(
            picture, extent=(-half_width, half_width, -half_width, half_width), interpolation="nearest"
        )
        axes.set_xlabel(f"{side.right_label} ({unit})", color=INK, fontsize=10)
        axes.set_ylabel(f"{side.up_label} ({unit})", color=INK, fontsize=10)
        axes.tick_params(labelsize=9, colors=MUTED)
        axes.locator_params(nbins=5)

    def text(self, title: str, lines: Sequence[tuple[str, str, Colour]]) -> None:
        """Lines of (value, what it counts, colour); an empty value makes a note of the whole line."""
        axes = self._next(title)
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        for number, (value, what, colour) in enumerate(lines):
            height = 0.93 - 0.08 * number
            axes.text(
                0.15, height, value, color=colour, fontsize=10.5, ha="right", va="center", weight="bold"
            )
            axes.text(0.18 if value else 0.0, height, what, color=colour, fontsize=10.5, va="center")

    def png(self) -> bytes:
        """The sheet as a PNG file."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self._figure).print_png(buffer)
        return buffer.getvalue()

    def _next(self, title: str) -> Any:
        row, column = divmod(self._num_panels, self._columns)
        self._num_panels += 1
        left = column * (LEFT_IN + PICTURE_IN + RIGHT_IN) + LEFT_IN
        below_top = SHEET_TITLE_IN + row * (ABOVE_IN + PICTURE_IN + BELOW_IN) + ABOVE_IN + PICTURE_IN
        corner = np.array([left, self._size_in[1] - below_top]) / self._size_in
        axes = self._figure.add_axes((*corner, *(PICTURE_IN / self._size_in)))
        axes.set_title(title, color=INK, fontsize=11.5, loc="left")
        for edge in axes.spines.values():
            edge.set_color(MISSING)
        return axes
