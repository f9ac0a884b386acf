"""One small demo for all pages and examples."""

from pathlib import Path

import pytest
from filelock import FileLock
from small_demo import make_small_demo


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory, worker_id) -> Path:
    """Made once, by the process that comes first; the others wait for it."""
    if worker_id == "master":
        return make_small_demo(tmp_path_factory.mktemp("demo"))
    folder = tmp_path_factory.getbasetemp().parent / "small_demo"  # of all processes of this test run
    with FileLock(f"{folder}.lock"):
        if not (folder / "labels.parquet").exists():
            make_small_demo(folder)
    return folder
