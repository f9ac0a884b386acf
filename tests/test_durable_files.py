"""Files that are whole or absent, and folders that have one writer."""

import os
import signal
import subprocess
import sys

import pytest

from laq_model.durable_files import folder_lock, new_folder, remove_folder, remove_leftovers, write_atomically
from laq_model.errors import RunError


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "a.json"
    write_atomically(file, "old")
    write_atomically(file, "naïve → новый\n")
    assert file.read_bytes() == "naïve → новый\n".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_keeps_its_content(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomically(file, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "shard"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_old_folder(tmp_path):
    target = tmp_path / "shard"
    with new_folder(target) as folder:
        (folder / "a").write_text("old")

    def fail():
        with new_folder(target) as folder:
            (folder / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_go_and_nothing_else(tmp_path):
    (tmp_path / "a.tmp").mkdir()
    (tmp_path / "a.tmp" / "part").write_text("")
    (tmp_path / "b.tmp").write_text("")
    (tmp_path / "c").write_text("")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_removed_folder_is_gone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


HOLDER = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from laq_model.durable_files import folder_lock
with folder_lock(Path({folder!r})):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    script = HOLDER.format(path=sys.path, folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=rf"another process is writing .* \(process {process.pid} on "):
            folder_lock(tmp_path).__enter__()
        process.send_signal(signal.SIGKILL)
    with folder_lock(tmp_path):
        pass
