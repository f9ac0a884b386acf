"""The bad turns of docs/transcript.md, taken again: each ends with the very line that the page shows."""

import json
import shutil
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from markdown_blocks import ROOT, read_code
from real_parsers import as_door
from shell_commands import commands_of
from test_examples import run_example

from laq_model.cli import main


def shown_turns() -> list[tuple[str, str]]:
    """Each command of the page whose answer is an error, with its line."""
    lines = [line for block in read_code("docs/transcript.md").blocks for line in block.text.splitlines()]
    return [(before[2:], line) for before, line in pairwise(lines) if line.startswith("error: ")]


@pytest.fixture(scope="module")
def folder(small_demo, tmp_path_factory):
    """What a user has at this point of the page."""
    folder = tmp_path_factory.mktemp("user")
    run_example("demo_as_lerobot.py", folder / "demo_lerobot", 2)
    for name in ("old", "nocol", "demo_labelled"):
        shutil.copytree(folder / "demo_lerobot", folder / name)
    info = json.loads((folder / "old/meta/info.json").read_text())
    (folder / "old/meta/info.json").write_text(json.dumps({**info, "codebase_version": "v2.1"}))
    frames = folder / "nocol/data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(frames).drop_columns(["episode_index"]), frames)
    shutil.copytree(small_demo / "run", folder / "runs/first")
    return folder


def test_the_page_shows_bad_turns():
    lines = (ROOT / "docs/transcript.md").read_text().splitlines()
    refusals = [line for line in lines if line.startswith("error: ")]
    assert len(refusals) >= 5
    assert [line for _, line in shown_turns()] == refusals  # each right after its command


@pytest.mark.parametrize(("command", "line"), shown_turns())
def test_a_bad_turn_ends_with_the_line_shown(command, line, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (words,) = commands_of(command)
    with pytest.raises(SystemExit) as exit_info:
        main(as_door(words))
    assert exit_info.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == line
