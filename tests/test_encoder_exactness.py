"""From frames to tokens: no difference where nothing changed, no influence of a batch, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from laq_model.concerto_wrapper import ConcertoEncoder
from laq_model.encoder_config import EncoderConfig
from laq_model.geometry_source import SensorSource, VGGTSource
from laq_model.ptv3 import build_ptv3
from laq_model.structures import DepthAndCameras
from laq_model.vggt import build_vggt

VGGT_SIZES = {
    "img_size": 56,
    "embed_dim": 32,
    "vit_depth": 1,
    "vit_num_heads": 2,
    "depth": 2,
    "num_heads": 2,
    "camera_trunk_depth": 1,
    "camera_num_heads": 4,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 8, 8],
    "dpt_layers": [0, 1, 0, 1],
}
PTV3_SIZES = {
    "stride": [2, 2],
    "enc_depths": [1, 1, 1],
    "enc_channels": [8, 16, 24],
    "enc_num_head": [1, 2, 3],
    "enc_patch_size": [64, 64, 64],
}
CONFIG = EncoderConfig(
    half_extent_m=0.5, cell_size_m=0.1, max_points=700, max_tokens=48, patch_size_px=14, feature_levels=1
)
SIDE_PX = 56
PAIRS, STILL = 3, 1  # the second pair shows one frame twice


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    vggt, ptv3 = build_vggt(VGGT_SIZES), build_ptv3(PTV3_SIZES)
    with torch.no_grad():
        for network in (vggt, ptv3):
            for name, parameter in network.named_parameters():
                if name.endswith(".gamma"):
                    parameter.fill_(0.5)
                elif parameter.ndim in (2, 4) and "pose_branch" not in name:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
    return vggt.eval(), ptv3


@pytest.fixture(scope="module")
def frames() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(2 * PAIRS, 3, 7, 7, generator=generator)
    smooth = (
        F.interpolate(rough, size=(SIDE_PX, SIDE_PX), mode="bicubic").clamp(0, 1).unflatten(0, (PAIRS, 2))
    )
    smooth[STILL, 1] = smooth[STILL, 0]
    return smooth


def recorded_geometry() -> DepthAndCameras:
    generator = torch.Generator().manual_seed(1)
    shape = (PAIRS, 2, SIDE_PX, SIDE_PX)
    depth = 0.6 + 0.1 * F.interpolate(
        torch.rand(2 * PAIRS, 1, 5, 5, generator=generator), size=shape[2:]
    ).view(shape)
    depth[STILL, 1] = depth[STILL, 0]
    camera = torch.eye(4)[:3].repeat(PAIRS, 2, 1, 1)
    camera[..., 3] = 0.05 * torch.rand(PAIRS, 2, 3, generator=generator)
    camera[STILL, 1] = camera[STILL, 0]
    focal = torch.tensor([[60.0, 0, 27.5], [0, 60.0, 27.5], [0, 0, 1]])
    return DepthAndCameras(
        depth=depth,
        confidence=torch.ones(shape),
        intrinsics=focal.repeat(PAIRS, 2, 1, 1),
        cam_from_world=camera,
        world_up=torch.tensor([0.0, -1.0, 0.0]).repeat(PAIRS, 1),
        is_metric=True,
    )


def part(geometry: DepthAndCameras | None, pair: int) -> DepthAndCameras | None:
    if geometry is None:
        return None
    own = slice(pair, pair + 1)
    return DepthAndCameras(
        depth=geometry.depth[own],
        confidence=geometry.confidence[own],
        intrinsics=geometry.intrinsics[own],
        cam_from_world=geometry.cam_from_world[own],
        world_up=geometry.world_up[own],
        is_metric=geometry.is_metric,
    )


def encoder_of(networks, geometry: str, **settings) -> ConcertoEncoder:
    vggt, ptv3 = networks
    config = replace(CONFIG, geometry=geometry, **settings)
    source = SensorSource()
    if geometry == "vggt":
        source = VGGTSource(
            vggt, context=config.geometry_context, max_frames_per_batch=config.max_frames_per_batch
        )
    return ConcertoEncoder(source, ptv3, config)


SETTINGS = [
    ("vggt", {}),
    ("vggt", {"geometry_context": "frame", "pooling": "patch"}),
    ("vggt", {"pooling": "global", "max_tokens": 1}),
    ("vggt", {"subsampling": "random", "max_points": 90}),
    ("vggt", {"subsampling": "farthest", "max_points": 90}),
    ("sensor", {}),
]


@pytest.mark.parametrize(("geometry", "settings"), SETTINGS)
def test_a_pair_has_the_bits_of_the_pair_alone(networks, frames, geometry, settings):
    recorded = recorded_geometry() if geometry == "sensor" else None
    encoder = encoder_of(networks, geometry, **settings)
    together = encoder(frames, recorded)
    assert together.is_valid.any(dim=1).all()
    for pair in range(PAIRS):
        alone = encoder(frames[pair : pair + 1], part(recorded, pair))
        for name in ("feat", "state", "position", "is_valid"):
            assert torch.equal(getattr(together, name)[pair : pair + 1], getattr(alone, name)), name


@pytest.mark.parametrize("budget", [0, 16])
@pytest.mark.parametrize(("geometry", "settings"), SETTINGS)
def test_the_same_frame_twice_differs_by_exactly_zero(networks, frames, geometry, settings, budget):
    recorded = recorded_geometry() if geometry == "sensor" else None
    tokens = encoder_of(networks, geometry, max_frames_per_batch=budget, **settings)(frames, recorded)
    assert torch.equal(tokens.feat[STILL, 0], tokens.feat[STILL, 1])
    assert torch.equal(tokens.state[STILL, 0], tokens.state[STILL, 1])
    assert tokens.feat[STILL].abs().sum() > 0
    for pair in {0, 1, 2} - {STILL}:
        assert (tokens.feat[pair, 0] - tokens.feat[pair, 1]).abs().max() > 0.1
