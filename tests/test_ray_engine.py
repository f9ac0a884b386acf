"""The same store and the same labels on a Ray cluster, whatever its workers go through (extra [ray])."""

import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from laq_model.errors import ConfigError, RunError
from laq_model.feature_store import FeatureStoreWriter, Part, Span, TokenShape
from laq_model.precompute import PrecomputeConfig, ShardJob, ShardUnit
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from laq_model.work_engine import run_units
from laq_model.work_units import EngineConfig
from same_work import assert_same_work
from square_job import SquareJob, squares_in
from written_videos import write_video


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "laq_model.ray_engine", raising=False)
    with pytest.raises(ConfigError, match=r"--engine ray needs the package ray .*'concerto-laq\[ray\]'"):
        list(run_units(SquareJob(str(tmp_path)), [1], EngineConfig(engine="ray")))


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine, pretending to four cores."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra [ray])")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}},
    )
    yield EngineConfig(engine="ray", num_encoders=2)
    ray.shutdown()


def test_every_unit_is_done(cluster, tmp_path):
    assert sorted(run_units(SquareJob(str(tmp_path)), list(range(12)), cluster)) == list(range(12))
    assert squares_in(tmp_path) == {unit: unit * unit for unit in range(12)}


def test_an_error_of_the_job_is_said(cluster, tmp_path):
    job = SquareJob(str(tmp_path), fails_at=4)
    with pytest.raises(RunError, match="unit 4 is broken"):
        list(run_units(job, list(range(8)), cluster))


def test_a_killed_worker_costs_no_unit(cluster, tmp_path):
    """kill -9 of an actor, found by the process number that it leaves with each unit."""
    killed: list[int] = []

    def kill_first() -> None:
        while not killed:
            for path in tmp_path.glob("*.txt"):
                process = int(path.read_text().split()[1])
                assert process != os.getpid()
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_first)
    killer.start()
    done = sorted(run_units(SquareJob(str(tmp_path), seconds=0.3), list(range(10)), cluster))
    killer.join()
    assert killed
    assert done == list(range(10))
    assert squares_in(tmp_path) == {unit: unit * unit for unit in range(10)}


def test_store_and_labels_are_those_of_one_process(cluster, tmp_path):
    assert_same_work(tmp_path, cluster)


def test_the_work_of_precompute_can_be_sent_anywhere(tmp_path):
    """A job and its unit arrive as they were, and load what they would have loaded here."""
    write_video(tmp_path / "videos" / "v.webm", 8)
    data = VideoDataConfig(data_dir=str(tmp_path / "videos"), frame_size=112)
    config = PrecomputeConfig(output_dir=tmp_path / "store", device="cpu", data=data)
    index = build_index(data)
    writer = FeatureStoreWriter(tmp_path / "store", TokenShape(16, 20), "print", (), Part())
    job = ShardJob(config, replace(index, videos=()), writer)
    unit = ShardUnit(0, [Span("v.webm", 1, 2)], index.videos)
    sent_job, sent_unit = pickle.loads(pickle.dumps((job, unit)))
    assert (sent_job, sent_unit) == (job, unit)
    [loaded] = sent_job.load(sent_unit)
    assert [(pair.current_index, pair.future_index) for pair in loaded.pairs] == [(1, 6), (2, 7)]
