"""The examples, as a user runs them, on a small demo."""

import os
import subprocess
import sys
from pathlib import Path

from markdown_blocks import ROOT
from small_demo import write_short_clip


def run_example(name: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "laq"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tour_prints_four_codes_a_pair(small_demo, tmp_path):
    told = run_example("tour.py", write_short_clip(tmp_path / "clip.webm", num_frames=11), small_demo / "run")
    first, *pairs = told.splitlines()[-3:]
    assert first.startswith("2 pairs of ")  # frames 0 and 5 of 11, each with the one 5 later
    assert [line.split()[:5] for line in pairs] == [
        ["0.0", "s", "to", "0.5", "s"],
        ["0.5", "s", "to", "1.0", "s"],
    ]
    assert all(0 <= int(code) < 256 for line in pairs for code in line.split()[5:])
    assert all(len(line.split()) == 9 for line in pairs)


def test_an_action_is_transferred_to_every_other_held_out_clip(small_demo, tmp_path):
    told = run_example("action_transfer.py", small_demo, tmp_path / "picture.png")
    assert told.startswith("the action: codes [")
    assert f"picture: {tmp_path / 'picture.png'}" in told
    assert Path(tmp_path / "picture.png").stat().st_size > 5000
