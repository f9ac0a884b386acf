"""Scanning in other processes: order, and decoders that hang or die."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from laq_model.errors import VideoReadError
from laq_model.video import scan_workers
from laq_model.video.frame_table import FrameTable
from laq_model.video.scan import scan_video
from laq_model.video.scan_workers import scan_one_video, scan_videos
from written_videos import write_video

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.fixture
def processes(monkeypatch):
    """Every worker process that was started."""
    started = []
    start = scan_workers._start_process

    def spy():
        started.append(start())
        return started[-1]

    monkeypatch.setattr(scan_workers, "_start_process", spy)
    return started


def test_results_keep_the_order_and_equal_a_scan_in_this_process(tmp_path, processes):
    paths = [write_video(tmp_path / f"{n}.webm", 40 - 6 * n) for n in range(6)]
    paths.insert(3, tmp_path / "gone.webm")
    results = list(scan_videos(paths, workers=2, patience_s=60.0))
    for path, result in zip(paths, results, strict=True):
        if path.name == "gone.webm":
            assert isinstance(result, VideoReadError)
            assert "No such file" in str(result)
        else:
            assert result == scan_video(path)
    assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


@needs_pipes
def test_a_decoder_that_hangs_costs_its_video_only(tmp_path, processes):
    """Opening a pipe without a writer blocks for ever."""
    pipe = tmp_path / "pipe.webm"
    os.mkfifo(pipe)
    paths = [pipe, write_video(tmp_path / "sound.webm", 8)]
    hanging, sound = scan_videos(paths, workers=1, patience_s=8.0)
    assert str(hanging) == f"{pipe}: the decoder gave no frame for 8 s"
    assert isinstance(sound, FrameTable)
    assert len(processes) == 2
    assert all(process.poll() is not None for process in processes)


@needs_pipes
def test_a_decoder_that_dies_costs_its_video_only(tmp_path, processes, monkeypatch):
    path = write_video(tmp_path / "sound.webm", 8)
    pipe = tmp_path / "pipe.webm"
    os.mkfifo(pipe)
    start = scan_workers._start_process

    def start_and_kill_the_first():
        process = start()
        if len(processes) == 1:
            process.send_signal(signal.SIGKILL)
        return process

    monkeypatch.setattr(scan_workers, "_start_process", start_and_kill_the_first)
    died, sound = scan_videos([pipe, path], workers=1, patience_s=60.0)
    assert str(died) == f"{pipe}: the decoder crashed"
    assert isinstance(sound, FrameTable)


def test_a_slow_video_is_not_taken_for_a_hanging_one(tmp_path, monkeypatch):
    """Signs of life count, not the length of the video."""
    fake = (
        "import sys, time\n"
        "print('null', flush=True)\n"
        "for line in sys.stdin:\n"
        "    for _ in range(14): time.sleep(0.4); print('null', flush=True)\n"
        '    print(\'{"reason": "done"}\', flush=True)\n'
    )
    real = subprocess.Popen

    def start(command, **settings):
        return real([command[0], "-c", fake], **settings)

    monkeypatch.setattr(scan_workers.subprocess, "Popen", start)
    (result,) = scan_videos([Path("any.webm")], workers=1, patience_s=5.0)
    assert str(result) == "done"


def test_a_reader_that_stops_early_leaves_no_process(tmp_path, processes):
    paths = [write_video(tmp_path / f"{n}.webm", 8) for n in range(3)]
    scans = scan_videos(paths, workers=2, patience_s=60.0)
    assert isinstance(next(scans), FrameTable)
    scans.close()
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_no_videos_start_no_process(processes):
    assert list(scan_videos([], workers=4, patience_s=60.0)) == []
    assert processes == []


def test_one_video(tmp_path):
    path = write_video(tmp_path / "a.webm", 8)
    assert scan_one_video(path).num_frames == 8
    with pytest.raises(VideoReadError, match=r"b\.webm: cannot be opened as a video \(No such file"):
        scan_one_video(tmp_path / "b.webm")
