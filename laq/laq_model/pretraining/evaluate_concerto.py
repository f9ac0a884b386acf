"""Measure a tiny Concerto on held-out scenes, beside what it reads and a network that learned nothing.

python -m laq_model.pretraining.evaluate_concerto --scenes DIR --vggt_weights FILE --weights FILE
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import torch
import tyro

from ..devices import chosen_device
from ..encoder_config import EncoderConfig
from ..errors import ConfigError, LAQError
from ..presets import with_preset
from ..ptv3 import PointTransformerV3, build_ptv3, load_official_weights
from ..weights import read_weights
from .point_probe import Features, probe_kinds, probe_moved_points, probe_normals, probe_set, without_normals
from .tiny_concerto import TinyConcertoConfig, build_bank, point_features, raw_inputs, read_vggt
from .training_scenes import HELD_OUT


@dataclass(frozen=True)
class EvaluateConcertoConfig:
    """One measurement."""

    scenes: str
    """Folder of rendered training scenes, with held-out shards."""
    vggt_weights: str
    """The tiny VGGT's file: its depth makes the clouds."""
    weights: str
    """The network's file."""
    recorded_share: float = 0.0
    """Share of clips with recorded instead of predicted depth."""
    num_clips: int = 120
    """Training clips of the probes; as many held-out ones of each family, if there are."""
    device: str = ""
    """cpu or cuda; empty: the best there is."""
    seed: int = 0
    """Of the clips and of the untrained network."""

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ConfigError(f"num_clips must be at least 1, got {self.num_clips}")


PROBES = {"moved_auc": probe_moved_points, "kind_accuracy": probe_kinds}


def evaluate_file(config: EvaluateConcertoConfig) -> dict[str, dict[str, float]]:
    """Every probe's figure for the network, an untrained one and the raw inputs, for each held-out family."""
    file = read_weights(config.weights)
    network = build_ptv3(file.config)
    load_official_weights(network, file.tensors)
    torch.manual_seed(config.seed)
    untrained = build_ptv3(file.config)
    clouds = TinyConcertoConfig(
        scenes=config.scenes,
        vggt_weights=config.vggt_weights,
        output="",
        recorded_share=config.recorded_share,
        num_clips=config.num_clips,
        seed=config.seed,
    )
    device = chosen_device(config.device)
    vggt = read_vggt(config.vggt_weights).to(device)
    train = build_bank(clouds, vggt)
    feature_levels = with_preset(EncoderConfig(), "tiny").feature_levels

    def features_of(network: PointTransformerV3) -> Features:
        network.eval().to(device)
        return lambda batch: point_features(
            network, batch.to(device), max_grid_coord=train.max_grid_coord, feature_levels=feature_levels
        ).cpu()

    asked = {"": features_of(network), "_untrained": features_of(untrained), "_raw": raw_inputs}
    figures: dict[str, dict[str, float]] = {family: {} for family in HELD_OUT}
    held_out = {family: build_bank(clouds, vggt, held_out=family) for family in HELD_OUT}
    for whose, features in asked.items():
        bare = without_normals(features)
        known, known_bare = probe_set(features, train), probe_set(bare, train)
        for family, bank in held_out.items():
            unknown, unknown_bare = probe_set(features, bank), probe_set(bare, bank)
            figures[family] |= {f"{name}{whose}": probe(known, unknown) for name, probe in PROBES.items()}
            figures[family][f"normal_median_deg{whose}"] = probe_normals(known_bare, unknown_bare)
    return figures


def main() -> None:
    """Flags to one JSON object on stdout."""
    try:
        print(json.dumps(evaluate_file(tyro.cli(EvaluateConcertoConfig, use_underscores=True)), indent=2))
    except LAQError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
