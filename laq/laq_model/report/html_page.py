"""One self-contained page: no network, no other files, readable on a phone, by keyboard and without motion.

Pictures are data URIs; style and script are ``page.css`` and ``page.js`` beside this file; a content security
policy in the page forbids it to load anything else.
"""

from __future__ import annotations

import html
import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from .output_file import write_file

# Only what the page itself carries may be used; 'none' for all that could reach a network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

# Set beside the name of what a figure or a group must be compared with.
CONTROL_TAG = '<span class="tag">control</span>'


@runtime_checkable
class Section(Protocol):
    """A part of the page. See page_sections.py and page_viewers.py."""

    @property
    def title(self) -> str:
        """Heading, and entry in the page's list of contents."""
        ...

    @property
    def text(self) -> str:
        """Plain words under the heading; an empty line starts a new paragraph."""
        ...

    def body(self) -> str:
        """HTML of the section, everything in it escaped."""
        ...


def write_page(
    path: Path, *, title: str, sections: Sequence[Section], lead: str = "", footer: str = ""
) -> None:
    """Write the page in one step.

    Args:
        path: the ``.html`` file.
        title: of the page and its first heading; plain text, like all texts here.
        sections: in order.
        lead: what the page is, under its title.
        footer: where the figures come from.

    Raises:
        RunError: the file cannot be written.
    """
    write_file(path, page_html(title=title, sections=sections, lead=lead, footer=footer))


def page_html(*, title: str, sections: Sequence[Section], lead: str = "", footer: str = "") -> str:
    """The page as text."""
    anchors = _anchors([section.title for section in sections])
    contents = "".join(
        f'<li><a href="#{anchor}">{html.escape(section.title)}</a></li>'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    # One section is its own list of contents.
    navigation = f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n' if len(sections) > 1 else ""
    parts = "\n".join(
        f'<section aria-labelledby="{anchor}">\n<h2 id="{anchor}">{html.escape(section.title)}</h2>\n'
        f"{paragraphs(section.text)}{section.body()}\n</section>"
        for anchor, section in zip(anchors, sections, strict=True)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{_file("page.css")}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>{html.escape(title)}</h1>
{paragraphs(lead)}{navigation}</header>
<main id="content">
{parts}
</main>
<footer>{paragraphs(footer)}</footer>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def paragraphs(text: str) -> str:
    """Plain text as escaped paragraphs."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text) if block.strip()]
    return "".join(f"<p>{html.escape(block)}</p>\n" for block in blocks)


def _anchors(titles: Sequence[str]) -> list[str]:
    """A name for each heading, made of its letters and digits; its number keeps equal titles apart."""
    words = ["-".join(re.findall(r"[a-z0-9]+", title.lower())) for title in titles]
    return [f"s{number}-{word}".rstrip("-") for number, word in enumerate(words, start=1)]


def _file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
