"""The whole encoder, from frames to tokens: pairs a second, each part's share, peak memory.

    python benchmarks/encoder.py                                  # published sizes, two pairs at 224 pixels
    python benchmarks/encoder.py --dtype bfloat16 --save
    python benchmarks/encoder.py --preset tiny --pairs 8
    python benchmarks/encoder.py --device cuda --dtype bfloat16 --pairs 64 --max_frames_per_batch 64 --save

Published sizes have random weights here, so that nothing has to be fetched. VGGT is run and paid for, but its
random answer is no scene: the cloud is that of a smooth surface seen by two cameras, as dense as a real one.
``--vggt_weights`` and ``--concerto_weights`` measure files instead, on the same frames.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import replace

import torch
import torch.nn.functional as F
from measuring import Report, matmul_rate, peak_memory_gb, time_in_turn
from published_sizes import published_config, random_vggt
from torch import Tensor, nn

from laq_model.concerto_wrapper import ConcertoEncoder, build_encoder
from laq_model.encoder_config import EncoderConfig
from laq_model.geometry_source import VGGTSource
from laq_model.geometry_source.vggt_source import DTYPES
from laq_model.presets import with_preset
from laq_model.ptv3 import build_ptv3
from laq_model.structures import DepthAndCameras


class PaidSource(nn.Module):
    """VGGT is run; its answer, random as its weights, is replaced by a surface that fills the view."""

    name = "vggt"

    def __init__(self, source: VGGTSource):
        super().__init__()
        self.source = source

    def forward(self, frames: Tensor, recorded: DepthAndCameras | None = None) -> DepthAndCameras:
        predicted = self.source(frames, recorded)
        height, width = predicted.depth.shape[-2:]
        v, u = torch.meshgrid(
            torch.linspace(-1, 1, height, device=frames.device),
            torch.linspace(-1, 1, width, device=frames.device),
            indexing="ij",
        )
        depth = 1.2 + 0.25 * torch.sin(2 * u) * torch.cos(3 * v)
        focal = torch.tensor(
            [[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]], device=frames.device
        )
        camera = torch.eye(4, device=frames.device)[:3].repeat(*frames.shape[:2], 1, 1)
        camera[:, 1:, 0, 3] = 0.02  # the second camera stands two centimetres aside
        return DepthAndCameras(
            depth=depth.expand_as(predicted.depth).contiguous(),
            confidence=torch.ones_like(predicted.depth),
            intrinsics=focal.expand_as(predicted.intrinsics).contiguous(),
            cam_from_world=camera,
            world_up=predicted.world_up,
            is_metric=True,
        )


def random_encoder(config: EncoderConfig, device: torch.device) -> ConcertoEncoder:
    """Networks of published sizes with random weights."""
    dtype = DTYPES.get(config.vggt_dtype, torch.float32)
    source = VGGTSource(
        random_vggt({}, dtype=dtype, device=device), max_frames_per_batch=config.max_frames_per_batch
    )
    torch.manual_seed(0)
    network = build_ptv3(published_config(config.concerto_model)).to(device)
    return ConcertoEncoder(PaidSource(source), network, config)


def moving_frames(pairs: int, size: int, device: torch.device) -> Tensor:
    """Smooth colours; the second frame is the first one moved by three pixels."""
    rough = torch.rand(pairs, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(rough, size=(size, size + 3), mode="bicubic").clamp(0, 1)
    return torch.stack([smooth[..., :size], smooth[..., 3:]], dim=1).to(device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="published", choices=["published", "tiny"])
    parser.add_argument("--concerto_model", default="concerto_base")
    parser.add_argument("--vggt_weights", default="")
    parser.add_argument("--concerto_weights", default="")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--size", type=int, default=0, help="pixels; 0 is the preset's")
    parser.add_argument("--max_frames_per_batch", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-encoder.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    config = replace(
        with_preset(EncoderConfig(concerto_model=options.concerto_model), options.preset),
        vggt_dtype=options.dtype,
        vggt_weights=options.vggt_weights,
        concerto_weights=options.concerto_weights,
        max_frames_per_batch=options.max_frames_per_batch,
    )
    has_weights = options.preset == "tiny" or (options.vggt_weights and options.concerto_weights)
    encoder = build_encoder(config, device=device) if has_weights else random_encoder(config, device)
    size = options.size or (112 if options.preset == "tiny" else 224)
    frames = moving_frames(options.pairs, size, device)
    report = Report("encoder", f"Encoder, {options.preset} sizes, {options.dtype}, {device.type}")
    report.head(device=device)
    with torch.no_grad():
        scene = encoder.observe(frames)
        timings = time_in_turn(
            {
                "frames to tokens": functools.partial(encoder, frames),
                "depth and cameras": functools.partial(encoder.source, frames),
                "point features": functools.partial(encoder.point_features, scene),
                "pooling": functools.partial(encoder.tokens, scene),
            },
            rounds=options.rounds,
            device=device,
        )
    points = [int(end) for end in scene.cloud.offset.diff(prepend=scene.cloud.offset.new_zeros(1))]
    report.say(
        f"{options.pairs} pairs of {size} pixels; points of the clouds: {min(points)} to {max(points)}."
    )
    report.say()
    report.say("| part | time for all pairs | pairs a second |")
    report.say("|---|---|---|")
    for name, timing in timings.items():
        label = "point features and pooling" if name == "pooling" else name
        report.say(f"| {label} | {timing.text()} | {options.pairs / timing.seconds:.3f} |")
    report.say()
    best = matmul_rate([(1024, 1024, 4096)], dtype=DTYPES[options.dtype], device=device)
    report.say(f"Product rate {best / 1e9:.0f} GFLOP/s; peak memory {peak_memory_gb(device):.2f} GB.")
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
