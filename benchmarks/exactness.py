"""Networks of the published sizes beside slow twins, with the weight recipe of the golden files.

    python benchmarks/exactness.py vggt                    # one view, two views, an image that is not square
    python benchmarks/exactness.py concerto_small concerto_base --points 3000
    python benchmarks/exactness.py vggt concerto_base --save

The golden files pin small networks; this holds the same code to the formulas at full size. The twins are
those of the tests: explicit softmax, loops over points, nothing kept or reordered. VGGT's twin runs in
float32 like the network, the point encoder's in float64.
Takes minutes and 6 GB; no part of the tests.
"""

from __future__ import annotations

import argparse

import torch
from measuring import Report, peak_memory_gb
from ptv3_golden import recipe_weight
from ptv3_slow_network import SlowNetwork
from published_sizes import published_config, surface_cloud
from torch import Tensor
from vggt_slow_twin import SlowTwin
from vggt_weight_recipe import recipe_weights

from laq_model.ptv3 import build_ptv3
from laq_model.ptv3 import load_official_weights as load_ptv3
from laq_model.vggt import build_vggt
from laq_model.vggt import load_official_weights as load_vggt

SHAPES = ((1, 1, 224, 224), (1, 2, 224, 224), (1, 1, 126, 224))
VGGT_1B = {
    "img_size": 518,
    "patch_size": 14,
    "num_register_tokens": 4,
    "rope_freq": 100,
    "depth": 24,
    "num_heads": 16,
    "vit_depth": 24,
    "vit_num_heads": 16,
    "vit_num_register_tokens": 4,
    "camera_trunk_depth": 4,
    "camera_num_heads": 16,
    "dpt_layers": [4, 11, 17, 23],
}


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((ours.double() - expected.double()).abs().max() / expected.double().abs().max())


@torch.no_grad()
def compare_vggt(report: Report) -> None:
    with torch.device("meta"):
        network = build_vggt(VGGT_1B)
    shapes = network.official_shapes()
    weights = recipe_weights(shapes)
    load_vggt(network, weights)  # a network without memory takes the tensors themselves
    network.eval()
    generator = torch.Generator().manual_seed(0)
    for scenes, views, height, width in SHAPES:
        images = torch.rand(scenes, views, 3, height, width, generator=generator)
        out = network(images)
        depth, confidence, pose = SlowTwin(VGGT_1B, weights)(images)
        errors = {
            "depth": relative_error(out.depth, depth),
            "confidence": relative_error(out.depth_conf, confidence),
            "pose": relative_error(out.pose_enc, pose),
        }
        said = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
        report.say(f"| VGGT-1B | {scenes} × {views} × {height} × {width} | {said} |")


@torch.no_grad()
def compare_ptv3(report: Report, model: str, num_points: int) -> None:
    config = published_config(model)
    network = build_ptv3(config)
    weights = {key: recipe_weight(key, tuple(shape)) for key, shape in network.official_shapes().items()}
    load_ptv3(network, weights)
    inputs = surface_cloud(num_points, seed=0) | {"offset": torch.tensor([num_points])}
    ours = network(**inputs).stages
    slow = SlowNetwork(config, weights)(**inputs, max_grid_coord=None)
    for own, expected in zip(ours, slow, strict=True):
        if not torch.equal(own.grid_coord, expected["grid_coord"]):
            raise AssertionError(f"{model}: cells differ")
    said = ", ".join(
        f"{float((own.feat - expected['feat']).abs().max()):.1e}"
        for own, expected in zip(ours, slow, strict=True)
    )
    reach = max(float(own.feat.abs().max()) for own in ours)
    report.say(
        f"| {model} | {num_points} cells | largest difference by stage {said}; features reach {reach:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", help="vggt, concerto_tiny, concerto_small, concerto_base, …")
    parser.add_argument("--points", type=int, default=3000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/DATE-exactness.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = Report("exactness", "Published sizes beside slow twins, recipe weights, float32")
    report.head(device=torch.device("cpu"))
    report.say("| network | input | difference |")
    report.say("|---|---|---|")
    for name in options.networks:
        if name == "vggt":
            compare_vggt(report)
        else:
            compare_ptv3(report, name, options.points)
    report.say()
    report.say(f"Peak memory {peak_memory_gb(torch.device('cpu')):.2f} GB. Allowed: VGGT 2e-5, PTv3 1e-4.")
    if options.save:
        report.save()


if __name__ == "__main__":
    main()
