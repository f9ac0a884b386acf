"""The encoder on a GPU: no difference where nothing changed, and no influence of a batch when asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from laq_model.concerto_wrapper import build_encoder
from laq_model.encoder_config import EncoderConfig
from laq_model.presets import with_preset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
DEVICE = torch.device("cuda")
STILL = 1


@pytest.fixture(scope="module")
def frames() -> Tensor:
    rough = torch.rand(6, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    frames = F.interpolate(rough, size=(112, 112), mode="bicubic").clamp(0, 1).unflatten(0, (3, 2))
    frames[STILL, 1] = frames[STILL, 0]
    return frames.to(DEVICE)


def embedded_encoder(**settings):
    return build_encoder(with_preset(EncoderConfig(**settings), "tiny"), device=DEVICE)


@pytest.mark.parametrize("budget", [0, 1])
def test_the_same_frame_twice_differs_by_exactly_zero(frames, budget):
    tokens = embedded_encoder(max_frames_per_batch=budget)(frames)
    assert torch.equal(tokens.feat[STILL, 0], tokens.feat[STILL, 1])
    assert torch.equal(tokens.state[STILL, 0], tokens.state[STILL, 1])
    assert (tokens.feat[0, 0] - tokens.feat[0, 1]).abs().max() > 0.1


def test_scene_by_scene_a_pair_has_the_bits_of_the_pair_alone(frames):
    encoder = embedded_encoder(max_frames_per_batch=1)
    together = encoder(frames)
    for pair in range(len(frames)):
        alone = encoder(frames[pair : pair + 1])
        for name in ("feat", "state", "position", "is_valid"):
            assert torch.equal(getattr(together, name)[pair : pair + 1], getattr(alone, name)), name
