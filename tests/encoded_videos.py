"""Videos through the fake encoder into a store, and a run of a few steps trained from it."""

from pathlib import Path

import pytest

import laq_model.precompute as precompute_module
from fake_encoder import FakeEncoder, fake_config
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.training.loop import train
from laq_model.video.config import VideoDataConfig
from tiny_training import tiny_config


def store_and_run(root: Path, data: VideoDataConfig, *, num_steps: int, every_n: int = 1) -> None:
    """``root/store`` and ``root/run``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precompute_module, "build_encoder", lambda config, device: FakeEncoder())
        precompute(
            PrecomputeConfig(
                output_dir=root / "store", every_n=every_n, device="cpu", data=data, encoder=fake_config()
            )
        )
    train(tiny_config(root / "store", root / "run", data=data, encoder=fake_config(), num_steps=num_steps))
