"""One dataset for all tests of LeRobot's format; those that break it take a copy."""

import shutil

import pytest

from written_lerobot import write_lerobot


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "whole")


@pytest.fixture
def dataset_dir(written, tmp_path):
    return shutil.copytree(written, tmp_path / "dataset", ignore=shutil.ignore_patterns(".*"))
