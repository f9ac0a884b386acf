"""Both pretraining scripts on a GPU, and their runs taken up again on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_tiny_concerto import config as concerto_config  # noqa: F401 (a fixture)
from test_tiny_vggt import config_of, folder, micro  # noqa: F401 (fixtures)

from laq_model.pretraining import tiny_concerto, tiny_vggt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("bfloat16", [True, False])
def test_vggt_trains_there_and_goes_on_here(folder, micro, bfloat16):  # noqa: F811
    config = config_of(folder, device="cuda", num_steps=2, bfloat16=bfloat16)
    assert tiny_vggt.train(config)["abs_rel"] > 0
    tiny_vggt.train(replace(config, device="cpu", num_steps=4, resume=True, bfloat16=False))
    state = torch.load(folder / "run" / "resume.pt", weights_only=True)
    assert state["step"] == 4
    assert {value.device.type for value in state["average"].values()} == {"cpu"}


def test_concerto_trains_there_and_goes_on_here(concerto_config):  # noqa: F811
    assert tiny_concerto.train(replace(concerto_config, device="cuda"))["own"] > 0
    assert tiny_concerto.train(replace(concerto_config, device="cpu", num_steps=4, resume=True))["own"] > 0
