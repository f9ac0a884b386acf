"""The code of a Markdown page: fenced blocks with their language, and code in a line of text."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
)

_FENCE = re.compile(r"^ *```(\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line of code, counted from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> str:
        """The commands of a shell block; in a console block they follow a dollar sign, outputs do not."""
        if self.language != "console":
            return self.text
        return "\n".join(line[2:] for line in self.text.splitlines() if line.startswith("$ "))


@dataclass(frozen=True)
class MarkdownCode:
    """All code of a page.

    Attributes:
        inline: code in lines of text, each with its line.
        indented: lines that Markdown shows as code without saying in which language.
    """

    blocks: list[Block]
    inline: list[tuple[int, str]]
    indented: list[int]


def read_code(page: str) -> MarkdownCode:
    """Read a page of this repository."""
    blocks, inline, indented = [], [], []
    inside: tuple[int, str, list[str]] | None = None
    was_blank = True
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if inside is not None:
            if fence:
                first, language, lines = inside
                blocks.append(Block(page, first, language, "\n".join(lines)))
                inside = None
            else:
                inside[2].append(line)
        elif fence:
            inside = (number + 1, fence[1], [])
        else:
            if line.startswith("    ") and line.strip() and was_blank:
                indented.append(number)
            inline += [(number, code) for code in re.findall(r"`([^`]+)`", line)]
        was_blank = not line.strip()
    assert inside is None, f"{page}: the block at line {inside[0] if inside else 0} does not end"
    return MarkdownCode(blocks, inline, indented)
