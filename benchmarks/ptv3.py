"""PTv3: seconds a cloud beside a plain twin, share of the measured matrix product rate, memory.

    python benchmarks/ptv3.py                             # concerto_base's sizes, one cloud of 8192 cells
    python benchmarks/ptv3.py --model concerto_small --clouds 4 --save
    python benchmarks/ptv3.py --device cuda --clouds 16 --save

The twin is this network with attention as the published code computes it without its CUDA kernel: all scores
of a patch are written out, softmax, product with the values. Its convolution is the same one as here, which
was measured to be as fast as the library that the published code uses (spconv cannot be installed here). The
cloud is a dense, gently bent surface, one cell thick, as a depth map gives it.
"""

from __future__ import annotations

import argparse
import functools

import torch
from measuring import Report, count_work, matmul_rate, peak_memory_gb, time_in_turn
from published_sizes import published_config, surface_clouds
from torch import Tensor

from laq_model.ptv3 import PointTransformerV3, build_ptv3
from laq_model.ptv3.attention import SerializedAttention
from laq_model.ptv3.patches import PatchGroup


def attend_by_scores(layer: SerializedAttention, qkv: Tensor, group: PatchGroup) -> Tensor:
    """Attention with every score written out."""
    channels = qkv.shape[1] // 3
    query, _, _ = layer._heads(qkv, group.query, parts=3)
    _, key, value = layer._heads(qkv, group.key, parts=3)
    scores = (query * layer.scale) @ key.transpose(-2, -1)
    if group.is_key is not None:
        scores = scores.masked_fill(~group.is_key, float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(-1, channels)


def plain_twin(network: PointTransformerV3, config: dict) -> PointTransformerV3:
    """The same weights, attention by scores."""
    twin = build_ptv3(config)
    twin.load_state_dict(network.state_dict())
    for module in twin.modules():
        if isinstance(module, SerializedAttention):
            module._attend = functools.partial(attend_by_scores, module)
    return twin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="concerto_base")
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--clouds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-ptv3.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    config = published_config(options.model)
    network = build_ptv3(config).to(device)
    twin = plain_twin(network, config).to(device)
    clouds = surface_clouds(options.points, options.clouds, device)
    report = Report("ptv3", f"PTv3 {options.model}, {options.clouds} × {options.points} cells, {device.type}")
    report.head(device=device)
    with torch.no_grad():
        work = count_work(lambda: network(**clouds))
        stages = [len(stage.feat) for stage in network(**clouds).stages]
        error = (network(**clouds).to_points(0) - twin(**clouds).to_points(0)).abs().max()
        timings = time_in_turn(
            {"this network": lambda: network(**clouds), "plain twin": lambda: twin(**clouds)},
            rounds=options.rounds,
            device=device,
        )
    channels = config["enc_channels"]
    shapes = [(rows, width, 4 * width) for rows, width in zip(stages, channels, strict=True)]
    best = matmul_rate(shapes, dtype=torch.float32, device=device)
    report.say(f"Cells of the stages: {stages}. Largest difference of the two: {error:.1e}.")
    report.say()
    report.say("| | time | clouds a second | GFLOP/s | of the product rate |")
    report.say("|---|---|---|---|---|")
    for name, timing in timings.items():
        rate = work / timing.seconds
        report.say(
            f"| {name} | {timing.text()} | {options.clouds / timing.seconds:.2f} | {rate / 1e9:.0f} | "
            f"{rate / best:.0%} of {best / 1e9:.0f} GFLOP/s |"
        )
    ratio = timings["this network"].seconds / timings["plain twin"].seconds
    report.say()
    report.say(
        f"Ratio {ratio:.2f}; work {work / 1e9:.1f} GFLOP; peak memory {peak_memory_gb(device):.2f} GB "
        "(both networks)."
    )
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
