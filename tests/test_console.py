"""Quiet and JSON-lines output: what passes, what is held back, and in which form."""

import json
import sys

import pytest
from tqdm import tqdm

from laq_model import console as console_module
from laq_model.cli import main
from laq_model.console import console


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(console_module, "time", clock)
    return clock


def rows(text: str) -> list[dict]:
    return [
        {key: value for key, value in json.loads(line).items() if key != "time"} for line in text.splitlines()
    ]


def test_lines_become_objects_on_their_own_stream(capsys):
    with console(log_format="json"):
        print("index: 3 videos")
        print("two\n\nlines, ", end="")
        print("step 5: warning: codes collapse")
        print("error: no such file", file=sys.stderr)
        print("a library's words", end="\r\n", file=sys.stderr)
    out, err = capsys.readouterr()
    assert rows(out) == [
        {"kind": "message", "text": "index: 3 videos"},
        {"kind": "message", "text": "two"},
        {"kind": "warning", "text": "lines, step 5: warning: codes collapse"},
    ]
    assert rows(err) == [
        {"kind": "error", "text": "no such file"},
        {"kind": "log", "text": "a library's words"},
    ]


def test_a_line_carries_the_time_in_utc(capsys):
    with console(log_format="json"):
        print("x")
    assert json.loads(capsys.readouterr().out)["time"].endswith("+00:00")


def test_a_bar_is_reported_at_first_then_every_ten_seconds_and_at_its_end(capsys, clock):
    with console(log_format="json"):
        bar = tqdm(total=6, desc="encode", mininterval=0, unit="pair")
        for seconds in (1, 8.9, 0.1, 3, 3, 3):
            clock.now += seconds
            bar.update(1)
            bar.set_postfix(loss="0.5")
        bar.close()
        print("after", file=sys.stderr)
    found = rows(capsys.readouterr().err)
    assert [(row["done"], row["total"]) for row in found[:-1]] == [(0, 6), (3, 6), (6, 6)]
    assert {(row["kind"], row["task"]) for row in found[:-1]} == {("progress", "encode")}
    assert "loss=0.5" in found[1]["text"]
    assert found[-1] == {"kind": "log", "text": "after"}


def test_messages_beside_a_bar_stay_whole(capsys, clock):
    with console(log_format="json"):
        for number in tqdm(range(3), desc="train", mininterval=0, leave=False):
            tqdm.write(f"step {number}")
            print(f"note {number}", file=sys.stderr)
    out, err = capsys.readouterr()
    assert rows(out) == [{"kind": "message", "text": f"step {number}"} for number in range(3)]
    assert [row["text"] for row in rows(err) if row["kind"] != "progress"] == ["note 0", "note 1", "note 2"]
    assert [row["done"] for row in rows(err) if row["kind"] == "progress"] == [0, 3]


def test_a_bar_without_an_end_counts(capsys, clock):
    with console(log_format="json"), tqdm(desc="scan", mininterval=0) as bar:
        bar.update(4)
    assert [(row["done"], "total" in row) for row in rows(capsys.readouterr().err)] == [
        (0, False),
        (4, False),
    ]


def test_quiet_keeps_warnings_and_errors_only(capsys):
    with console(is_quiet=True):
        print("index: 3 videos")
        print("step 5: warning: codes collapse")
        for _ in tqdm(range(3), mininterval=0):
            pass
        sys.stderr.write("a.py:3: UserWarning: old file\n")
        print("error: no such file", file=sys.stderr)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "step 5: warning: codes collapse",
        "a.py:3: UserWarning: old file",
        "error: no such file",
    ]


def test_streams_are_given_back_after_an_error(capsys):
    before = (sys.stdout, sys.stderr)

    def fail() -> None:
        with console(log_format="json"):
            print("half a line", end="")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (sys.stdout, sys.stderr) == before
    assert rows(capsys.readouterr().out) == [{"kind": "message", "text": "half a line"}]


@pytest.mark.parametrize(
    ("flags", "promised"),
    [
        (["--log_format", "json"], {"kind": "error", "text": "give --data_dir DIR"}),
        (["--quiet"], None),
    ],
)
def test_a_command_speaks_as_its_flags_say(flags, promised, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["precompute", *flags])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (1, "")
    if promised:
        [row] = rows(err)
        assert row["kind"] == "error"
        assert row["text"].startswith(promised["text"])
    else:
        assert err.startswith("error: give --data_dir DIR")


def test_help_is_given_even_quietly(capsys):
    with pytest.raises(SystemExit):
        main(["label", "--quiet", "--help"])
    assert "--checkpoint" in capsys.readouterr().out
