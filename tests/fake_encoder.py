"""An encoder of a few lines: tokens that follow from the frames alone, in no time."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from laq_model.concerto_wrapper import ConcertoEncoder
from laq_model.encoder_config import EncoderConfig
from laq_model.structures import (
    FREE,
    GEOMETRY_CHANNELS,
    OCCUPANCY,
    OCCUPIED,
    SEEN_THROUGH,
    DepthAndCameras,
    PairTokens,
)

CHANNELS = 6
NUM_TOKENS = 8


class FakeEncoder(ConcertoEncoder):
    """Eight upright stripes of each frame: a bright one is occupied, and its features say how bright."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.num_pairs = 0

    @property
    def feature_channels(self) -> int:
        return CHANNELS

    def forward(
        self, frames: Float[Tensor, "pairs 2 3 height width"], recorded: DepthAndCameras | None = None
    ) -> PairTokens:
        self.num_pairs += len(frames)
        stripes = torch.stack([part.mean(dim=(2, 3, 4)) for part in frames.chunk(NUM_TOKENS, dim=4)], dim=2)
        is_occupied = stripes > 0.5
        scale = torch.linspace(0.1, 1, CHANNELS + GEOMETRY_CHANNELS)
        position = torch.zeros(len(frames), NUM_TOKENS, 3)
        position[..., 0] = torch.linspace(-1, 1, NUM_TOKENS)
        feat = stripes[..., None] * scale * is_occupied[..., None]
        feat[..., OCCUPANCY] = is_occupied.float()
        feat[..., SEEN_THROUGH] = (is_occupied & ~is_occupied.flip(1)).float()
        return PairTokens(
            feat=feat,
            state=torch.where(is_occupied, OCCUPIED, FREE),
            position=position,
            is_valid=torch.ones(len(frames), NUM_TOKENS, dtype=torch.bool),
        )


def fake_config() -> EncoderConfig:
    """Settings that go with it; the weights are the embedded ones."""
    return EncoderConfig(vggt_model="embedded", concerto_model="embedded", max_tokens=NUM_TOKENS)
