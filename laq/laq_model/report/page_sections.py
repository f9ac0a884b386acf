"""The still parts of a page: words, a table of figures with their controls, pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from .html_page import CONTROL_TAG, paragraphs


@dataclass(frozen=True)
class Words:
    """A section of text only: known limits, how to read the page."""

    title: str
    text: str

    def body(self) -> str:
        """Nothing beside the text."""
        return ""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: what was measured.
        cells: one for each column; numbers as they shall be read, for their digits are the author's choice.
        is_control: what the figure above must be compared with; such rows are set back and tagged.
    """

    name: str
    cells: Sequence[str]
    is_control: bool = False


@dataclass(frozen=True)
class Table:
    """Figures, each above its controls.

    Attributes:
        columns: heading of the names' column, then one for each cell.
        rows: in order; controls follow the figure that they control.
        caption: what all figures share: data, unit, split.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns) - 1:
                raise ValueError(
                    f"table {self.title!r} has {len(self.columns) - 1} columns of figures, "
                    f"row {row.name!r} has {len(row.cells)}"
                )

    def body(self) -> str:
        """A table; where it is wider than the page it scrolls by itself, by keyboard too."""
        head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in self.columns)
        rows = "\n".join(_row(row) for row in self.rows)
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        label = html.escape(self.title)
        return (
            f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>{caption}'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        )


@dataclass(frozen=True)
class Picture:
    """A PNG.

    Attributes:
        png: the file's bytes.
        alt: what it shows, for who cannot see it.
        caption: words under it.
        width_px: width on the page; narrower pages shrink it.
        is_sheet: of many panels, which would be illegible if shrunk: it scrolls sideways instead.
    """

    png: bytes
    alt: str
    caption: str = ""
    width_px: int = 360
    is_sheet: bool = False

    def html(self) -> str:
        """The picture as a data URI."""
        data = base64.b64encode(self.png).decode()
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        scrolls = f' class="sheet" tabindex="0" aria-label="{html.escape(self.alt)}"' if self.is_sheet else ""
        return (
            f'<figure{scrolls}><img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}" '
            f'width="{self.width_px}">{caption}</figure>'
        )


@dataclass(frozen=True)
class Figure:
    """Pictures side by side, as many as fit."""

    title: str
    pictures: Sequence[Picture] = field(default_factory=tuple)
    text: str = ""

    def body(self) -> str:
        """The pictures, or a word that there are none."""
        if not self.pictures:
            return paragraphs("There is nothing to show here.")
        return f'<div class="pictures">{"".join(picture.html() for picture in self.pictures)}</div>'


def _row(row: Row) -> str:
    tag = CONTROL_TAG if row.is_control else ""
    cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells)
    opening = '<tr class="control">' if row.is_control else "<tr>"
    return f'{opening}<th scope="row">{html.escape(row.name)}{tag}</th>{cells}</tr>'
