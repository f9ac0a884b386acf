"""The doors: what they say, what they refuse, and their exit status."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from laq_model.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOORS = {
    "train_concerto_laq.py": "--data_dir",
    "visualize_vggt_pointcloud.py": "--second_frame",
    "precompute_features.py": "--every_n",
    "label_videos.py": "--checkpoint",
    "evaluate_concerto_laq.py": "--checkpoint",
}


def run_main(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_info:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(exit_info.value.code or 0), out, err


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and an empty Hub cache, as on a machine that never fetched the weights."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def test_without_a_command_all_commands_are_listed(capsys):
    status, out, _ = run_main(capsys)
    assert status == 2
    assert all(f"  {name} " in out for name in COMMANDS)


def test_help_fits_a_screen(capsys):
    status, out, _ = run_main(capsys, "--help")
    assert status == 0
    assert len(out.splitlines()) <= 24
    assert max(len(line) for line in out.splitlines()) <= 80


def test_help_says_the_exit_statuses_and_the_common_flags(capsys):
    _, out, _ = run_main(capsys, "--help")
    assert "exit status: 0 done, 1 refused and why, 2 bad flags, 130 or 143 stopped" in out
    _, own, _ = run_main(capsys, "label", "--help")
    for flag in ("--config FILE", "--quiet", "--log_format json"):
        assert flag in out
        assert flag in own


def test_common_flags_may_stand_anywhere(capsys, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("data_dir: /nowhere/at/all\n")
    for arguments in (["precompute", "--config", str(file)], [f"--config={file}", "--quiet", "precompute"]):
        status, _, err = run_main(capsys, *arguments)
        assert status == 1
        assert "/nowhere/at/all" in err


@pytest.mark.skipif(not shutil.which("bash"), reason="the completion of bash needs bash")
def test_bash_completes_commands_flags_and_choices(capsys, tmp_path):
    status, script, _ = run_main(capsys, "--tyro-print-completion", "bash")
    assert status == 0
    (tmp_path / "completion.bash").write_text(script)
    lines = [f"source {tmp_path / 'completion.bash'}"]
    for words in ("concerto-laq pre", "concerto-laq train --num_st", "concerto-laq train --preset t"):
        lines += [f"COMP_WORDS=({words}) COMP_CWORD={len(words.split()) - 1}", "_tyro_concerto_laq"]
        lines += ["echo ${COMPREPLY[@]}"]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["precompute", "--num_steps", "tiny"]


def test_unknown_command_is_named_and_the_others_listed(capsys):
    status, _, err = run_main(capsys, "trian")
    assert status == 2
    assert err.startswith("error: no command 'trian'; choose from train, ")


def test_unknown_flag_is_no_traceback(capsys):
    status, out, err = run_main(capsys, "train", "--num_stepz", "3")
    assert status == 2
    assert "num_stepz" in out + err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(("door", "flag"), DOORS.items())
def test_doors_run_from_a_plain_checkout(door, flag, tmp_path):
    # Another working directory and no installed package: the source root is the script's own folder.
    result = subprocess.run(
        [sys.executable, ROOT / "laq" / door, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert flag in result.stdout


@pytest.mark.parametrize("command", ["train", "precompute", "label"])
def test_data_dir_is_asked_for(command, capsys):
    status, _, err = run_main(capsys, command)
    assert status == 1
    assert err.startswith("error: give --data_dir DIR")
    assert err.count("\n") == 1
