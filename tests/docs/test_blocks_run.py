"""Every block of README and docs is run in the order of its page, or says in pages.py why not."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
from markdown_blocks import PAGES, ROOT, Block, read_code
from pages import PAGES_RUN
from real_parsers import as_door
from shell_commands import commands_of

from laq_model.cli import main
from laq_model.geometry_source import registry


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_code_says_how_it_is_run(page):
    assert (page in PAGES_RUN) == any(
        block.language in ("bash", "python") for block in read_code(page).blocks
    )


@pytest.mark.parametrize("page", PAGES_RUN)
def test_the_blocks_of_a_page_run_in_order(page, small_demo, tmp_path, monkeypatch):
    run = PageRun(page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    PAGES_RUN[page].inputs(tmp_path, small_demo)
    for block in read_code(page).blocks:
        run.block(block)
    assert set(PAGES_RUN[page].not_run) == run.reasons_used, "these reasons are of no block any more"
    assert set(PAGES_RUN[page].smaller) == run.made_smaller, "these commands are of no block any more"


class PageRun:
    """The state of a page between its blocks."""

    def __init__(self, page: str):
        self.page = PAGES_RUN[page]
        self.names: dict[str, object] = {"__name__": page}
        self.reasons_used: set[str] = set()
        self.made_smaller: set[str] = set()
        self.printed = ""

    def block(self, block: Block) -> None:
        if block.language == "python":
            self._python(block)
        elif block.language == "bash":
            for words in commands_of(block.text):
                self._command(words, block.place)
        elif block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)
        elif block.language == "text" and self.page.shows_output:
            assert without_numbers(self.printed) == without_numbers(block.text), block.place
            self.printed = ""

    def _python(self, block: Block) -> None:
        code = compile(block.text, block.place, "exec")
        if not self._is_excused(block.text):
            with redirect_stdout(io.StringIO()) as printed:
                exec(code, self.names)
            self.printed += printed.getvalue()

    def _command(self, words: list[str], place: str) -> None:
        command = " ".join(words)
        if self._is_excused(command):
            return
        beginning = max((key for key in self.page.smaller if command.startswith(key)), key=len, default=None)
        if beginning:
            self.made_smaller.add(beginning)
            words = [*words, *self.page.smaller[beginning]]
        arguments = as_door(words)
        if arguments:
            try:
                main(arguments)
            except SystemExit as error:
                if error.code:
                    pytest.fail(f"{place}: {command} ended with status {error.code}")
        elif words[0] == "python" and (ROOT / words[1]).is_file():
            subprocess.run([sys.executable, ROOT / words[1], *words[2:]], check=True)
        else:
            pytest.fail(f"{place}: {command} is not run, and pages.py does not say why")

    def _is_excused(self, text: str) -> bool:
        found = [key for key in self.page.not_run if text.startswith(key)]
        self.reasons_used |= set(found)
        return bool(found)


def without_numbers(text: str) -> str:
    return re.sub(r"-?\d+\.\d+|nan", "#", text).strip()
