"""Units of work in this process and in several of this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from laq_model.errors import RunError, VideoReadError
from laq_model.work_engine import run_units
from laq_model.work_units import EngineConfig
from same_work import assert_same_work
from square_job import SquareJob, squares_in

TWO = EngineConfig(num_encoders=2)


def test_here_units_come_in_order(tmp_path):
    assert list(run_units(SquareJob(str(tmp_path)), [3, 1, 2], EngineConfig())) == [0, 1, 2]
    assert squares_in(tmp_path) == {1: 1, 2: 4, 3: 9}


def test_here_an_error_of_the_job_is_raised(tmp_path):
    job = SquareJob(str(tmp_path), fails_at=1)
    with pytest.raises(VideoReadError, match="unit 1 is broken"):
        list(run_units(job, [3, 1, 2], EngineConfig()))
    assert squares_in(tmp_path) == {3: 9}


def test_two_processes_do_every_unit_once(tmp_path):
    done = list(run_units(SquareJob(str(tmp_path), seconds=0.05), list(range(9)), TWO))
    assert sorted(done) == list(range(9))
    assert squares_in(tmp_path) == {unit: unit * unit for unit in range(9)}
    workers = {path.read_text().split()[1] for path in tmp_path.glob("*.txt")}
    assert str(os.getpid()) not in workers


def test_an_error_in_a_process_is_raised_here(tmp_path):
    with pytest.raises(VideoReadError, match="unit 4 is broken"):
        list(run_units(SquareJob(str(tmp_path), fails_at=4), list(range(8)), TWO))


def test_a_killed_process_is_said_and_keeps_what_is_done(tmp_path):
    """kill -9 of a worker, found by the process number that it leaves with each unit."""

    def kill_first() -> None:
        while not (paths := list(tmp_path.glob("*.txt"))):
            time.sleep(0.01)
        os.kill(int(paths[0].read_text().split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_first)
    killer.start()
    job = SquareJob(str(tmp_path), seconds=0.2)
    with pytest.raises(RunError, match=r"2 processes at work died.*run the same command again"):
        list(run_units(job, list(range(20)), TWO))
    killer.join()
    done = squares_in(tmp_path)
    assert done
    assert done == {unit: unit * unit for unit in done}
    rest = [unit for unit in range(20) if unit not in done]
    list(run_units(replace(job, seconds=0.0), rest, TWO))
    assert squares_in(tmp_path) == {unit: unit * unit for unit in range(20)}


DRIVER = """
import sys
from laq_model.work_engine import run_units
from laq_model.work_units import EngineConfig
from square_job import SquareJob

if __name__ == "__main__":
    list(run_units(SquareJob(sys.argv[1], seconds=0.2), list(range(200)), EngineConfig(num_encoders=2)))
"""


def test_workers_end_with_a_killed_driver(tmp_path):
    script, squares = tmp_path / "driver.py", tmp_path / "squares"
    squares.mkdir()
    script.write_text(DRIVER)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    driver = subprocess.Popen(
        [sys.executable, str(script), str(squares)], env={**os.environ, "PYTHONPATH": path}
    )
    while len(list(squares.glob("*.txt"))) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    workers = {int(file.read_text().split()[1]) for file in squares.glob("*.txt")}
    driver.kill()
    driver.wait()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


def test_store_and_labels_are_those_of_one_process(tmp_path):
    assert_same_work(tmp_path, TWO)
