"""Measure a tiny VGGT on held-out scenes, beside predictors that hardly look.

python -m laq_model.pretraining.evaluate_vggt --scenes DIR --weights FILE
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import tyro
from jaxtyping import Float
from torch import Tensor

from ..devices import chosen_device
from ..errors import LAQError
from ..vggt import build_vggt, load_official_weights
from ..weights import read_weights
from .training_scenes import HELD_OUT, TrainingScenes
from .vggt_evaluation import evaluate, held_out_views, mean_depth_map
from .vggt_metrics import align_scale, depth_metrics, mean_of


@dataclass(frozen=True)
class EvaluateVGGTConfig:
    """One measurement."""

    scenes: str
    """Folder of rendered training scenes, with held-out shards."""
    weights: str
    """The network's file."""
    num_views: int = 2
    """Views of each scene."""
    num_clips: int = 96
    """Held-out clips of each family."""
    align_views: bool = False
    """Align the views after the network has spoken, as the preset tiny does."""
    device: str = ""
    """cpu or cuda; empty: the best there is."""


def evaluate_file(config: EvaluateVGGTConfig) -> dict[str, dict[str, float]]:
    """Figures of network, mean depth map and planes through the true depth, for each family of scenes."""
    file = read_weights(config.weights)
    network = build_vggt(file.config)
    load_official_weights(network, file.tensors)
    network.eval().to(chosen_device(config.device))
    mean_map = mean_depth_map(TrainingScenes(config.scenes), num_clips=200, seed=0)
    figures = {}
    for family in HELD_OUT:
        held_out = TrainingScenes(config.scenes, held_out=family)
        of_network = evaluate(
            network,
            held_out,
            num_clips=config.num_clips,
            num_views=config.num_views,
            is_aligned=config.align_views,
        )
        figures[family] = of_network | evaluate_map(mean_map, held_out, config)
    return figures


def evaluate_map(
    mean_map: Float[Tensor, "height width"], scenes: TrainingScenes, config: EvaluateVGGTConfig
) -> dict[str, float]:
    """Figures of one depth map for all scenes, scaled to each."""
    results = []
    for clips, views in held_out_views(
        scenes, num_clips=config.num_clips, num_views=config.num_views, batch_clips=16
    ):
        recorded = scenes.read(clips, views).recorded
        depth = mean_map.expand_as(recorded.depth)
        figures = depth_metrics(depth * align_scale(depth, recorded.depth)[:, None, None, None], recorded)
        results.append(
            {f"mean_map.{name}": figures[name] for name in ("abs_rel", "delta_1.25", "near_abs_rel")}
        )
    return mean_of(results)


def main() -> None:
    """Flags to one JSON object on stdout."""
    try:
        print(json.dumps(evaluate_file(tyro.cli(EvaluateVGGTConfig, use_underscores=True)), indent=2))
    except LAQError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
