"""Train the tiny Concerto on clouds of rendered scenes.

python -m laq_model.pretraining.tiny_concerto --scenes DIR --vggt_weights FILE --output DIR
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from ..devices import chosen_device
from ..encoder_config import EncoderConfig
from ..errors import ConfigError, LAQError
from ..geometry_source import GeometrySource, SensorSource, VGGTSource
from ..pointcloud.batching import batch_index
from ..presets import with_preset
from ..ptv3 import PointTransformerV3, build_ptv3
from ..vggt import VGGT, build_vggt, load_official_weights
from ..weights import read_weights
from .muon import Muon
from .point_clouds import CloudBank, PointBatch, build_clouds, nothing_withheld
from .point_objective import (
    MaskConfig,
    PretrainingModel,
    block_mask,
    image_loss,
    is_asked,
    mean_of_patches,
    own_loss,
    own_targets,
)
from .point_probe import Features, probe_moved_points, probe_set
from .run_state import (
    AverageWeights,
    learning_rate_share,
    load_run_state,
    report,
    save_network,
    save_run_state,
)
from .self_distillation import balanced_assignment, distillation_loss
from .training_scenes import TrainingScenes
from .vggt_metrics import mean_of

log = logging.getLogger(__name__)

NETWORK_FILE = "concerto_embedded.safetensors"
# Four stages instead of five: the finest of the three that are joined by default has 4 cm cells, and a hand
# that moves a few centimetres leaves its cell. Heads of 16 channels, as published.
TINY_NETWORK: dict[str, Any] = {
    "in_channels": 9,
    "order": ["z", "z-trans", "hilbert", "hilbert-trans"],
    "stride": [2, 2, 2],
    "enc_depths": [1, 1, 2, 1],
    "enc_channels": [32, 48, 96, 128],
    "enc_num_head": [2, 3, 6, 8],
    "enc_patch_size": [256, 256, 256, 256],
    "mlp_ratio": 4,
    "qkv_bias": True,
    "drop_path": 0.1,
    "mask_token": True,
}


@dataclass(frozen=True)
class TinyConcertoConfig:
    """One training run."""

    scenes: str
    """Folder of rendered training scenes."""
    vggt_weights: str
    """The tiny VGGT's file: its depth makes most clouds, its image transformer says what patches show."""
    output: str
    """Folder of the run: state, metrics and the network."""
    resume: bool = False
    """Go on from the state in the output folder."""
    num_clips: int = 800
    """Training clips that become clouds, two of each."""
    recorded_share: float = 0.4
    """Share of clips with recorded instead of predicted depth."""
    num_steps: int = 3000
    """Optimiser steps in all."""
    warmup_steps: int = 50
    """Steps of the learning rate's rise."""
    decay_steps: int = 800
    """Steps of its fall at the end."""
    clouds_per_step: int = 4
    """Clouds of a step."""
    learning_rate: float = 2e-3
    """On the plateau."""
    weight_decay: float = 0.02
    """For matrices only."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""
    average_decay: float = 0.998
    """Of the exponential average of the weights, which is what is saved."""
    own_weight: float = 1.0
    """Weight of the hidden points' own place, colour and normal."""
    image_weight: float = 1.0
    """Weight of the image network's tokens."""
    teacher_weight: float = 0.0
    """Weight of what the average of the weights says of hidden points: Concerto's self-distillation."""
    save_every_steps: int = 250
    """Steps between states, evaluations and network files."""
    device: str = ""
    """cpu or cuda; empty: the best there is. Clouds are kept and changed on the CPU."""
    seed: int = 0
    """Of the initial weights and all drawing."""
    mask: MaskConfig = field(default_factory=MaskConfig)

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_steps", "clouds_per_step", "learning_rate", "save_every_steps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


def train(config: TinyConcertoConfig) -> dict[str, float]:
    """Build the clouds, train, save as it goes, and return the last held-out figures."""
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    device = chosen_device(config.device)
    vggt = read_vggt(config.vggt_weights).to(device)
    bank = build_bank(config, vggt)
    held_out = build_bank(replace(config, num_clips=64), vggt, held_out="unseen tasks")
    image_channels = held_out.batch([0]).image_tokens.shape[-1]
    model = new_model(image_channels, config.seed).train().to(device)
    log.info(
        "%d clouds; %.2f M parameters", len(bank), sum(p.numel() for p in model.network.parameters()) / 1e6
    )
    average = AverageWeights(model, config.average_decay)
    teacher = averaged_model(average, image_channels).to(device)
    optimizers = build_optimizers(model, config)
    first_step = 0
    if config.resume:
        first_step = load_run_state(folder, network=model, average=average, optimizers=optimizers)
    (folder / "config.json").write_text(json.dumps({**asdict(config), "network": TINY_NETWORK}, indent=2))
    metrics: dict[str, float] = {}
    sums: dict[str, float] = {}
    started = time.perf_counter()
    for step in range(first_step, config.num_steps):
        batch = bank.draw(num_clouds=config.clouds_per_step, seed=config.seed, step=step).to(device)
        if config.teacher_weight:
            teacher.load_state_dict(average.tensors)
        terms = training_step(
            model, teacher, batch, optimizers=optimizers, config=config, step=step, bank=bank
        )
        average.update(model)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value / 50
        done = step + 1
        if done % 50 == 0:
            seconds = (time.perf_counter() - started) / 50
            report(folder, {"step": done, **sums, "clouds_per_s": config.clouds_per_step / seconds})
            started, sums = time.perf_counter(), {}
        if done % config.save_every_steps == 0 or done == config.num_steps:
            save_run_state(folder, step=done, network=model, average=average, optimizers=optimizers)
            averaged = averaged_model(average, image_channels).to(device)
            metrics = evaluate(averaged, bank, held_out, config)
            report(folder, {"step": done, **{f"held_out.{name}": value for name, value in metrics.items()}})
            save_network(
                folder / NETWORK_FILE,
                averaged.network.state_dict(),
                config=TINY_NETWORK,
                provenance={
                    "steps": done,
                    "clouds": len(bank),
                    "data": "rendered scenes",
                    "held_out": metrics,
                },
            )
            started = time.perf_counter()
    return metrics


def new_model(image_channels: int, seed: int) -> PretrainingModel:
    """The network with random weights, and its heads."""
    torch.manual_seed(seed)
    return PretrainingModel(build_ptv3(TINY_NETWORK), image_channels)


def read_vggt(path: str) -> VGGT:
    """The frozen tiny VGGT."""
    file = read_weights(path)
    network = build_vggt(file.config)
    load_official_weights(network, file.tensors)
    return network.eval().requires_grad_(False)


def build_bank(config: TinyConcertoConfig, vggt: VGGT, *, held_out: str = "") -> CloudBank:
    """Clouds of random clips, the first share from recorded depth, the rest from predicted depth.

    Args:
        held_out: a family of ``training_scenes.HELD_OUT``; empty for training clips.
    """
    scenes = TrainingScenes(config.scenes, held_out=held_out)
    clips = np.random.default_rng(config.seed).permutation(len(scenes))[: config.num_clips]
    num_recorded = round(config.recorded_share * len(clips))
    encoder_config = with_preset(EncoderConfig(), "tiny")
    clouds: list[PointBatch] = []
    sources: list[tuple[GeometrySource, np.ndarray]] = [
        (SensorSource(), clips[:num_recorded]),
        (VGGTSource(vggt), clips[num_recorded:]),
    ]
    for source, part in sources:
        clouds += build_clouds(source, vggt, scenes, config=encoder_config, clips=part)
    return CloudBank(
        clouds, half_extent_m=encoder_config.half_extent_m, voxel_size_m=encoder_config.voxel_size_m
    )


def build_optimizers(model: nn.Module, config: TinyConcertoConfig) -> list[torch.optim.Optimizer]:
    """Muon for the linear layers of the blocks, AdamW for everything else; norms and biases do not decay."""
    named = list(model.named_parameters())
    hidden = [p for name, p in named if ".block" in name and p.ndim == 2]
    is_hidden = {id(p) for p in hidden}
    decaying = [p for _, p in named if p.ndim > 1 and id(p) not in is_hidden]
    adamw = torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": config.weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    return [adamw, Muon(hidden, lr=config.learning_rate, weight_decay=config.weight_decay)]


def training_step(
    model: PretrainingModel,
    teacher: PretrainingModel,
    batch: PointBatch,
    *,
    optimizers: list[torch.optim.Optimizer],
    config: TinyConcertoConfig,
    step: int,
    bank: CloudBank,
) -> dict[str, float]:
    """One optimiser step; the value of every term before it."""
    share = learning_rate_share(
        step, num_steps=config.num_steps, warmup_steps=config.warmup_steps, decay_steps=config.decay_steps
    )
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = config.learning_rate * share
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    terms = objective(model, teacher, batch, config=config, bank=bank, generator=generator)
    model.zero_grad(set_to_none=True)
    terms["total"].backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    for optimizer in optimizers:
        optimizer.step()
    return {name: float(value.detach()) for name, value in terms.items()} | {"gradient_norm": float(norm)}


def objective(
    model: PretrainingModel,
    teacher: PretrainingModel,
    batch: PointBatch,
    *,
    config: TinyConcertoConfig,
    bank: CloudBank,
    generator: torch.Generator,
) -> dict[str, Float[Tensor, ""]]:
    """Every term on clouds with hidden blocks, and their weighted sum; ``teacher`` is in eval."""
    cloud_index = batch_index(batch.offset, len(batch.coord))
    mask = block_mask(batch.grid_coord, cloud_index, config=config.mask, generator=generator)
    feat = all_levels(model.network, batch, max_grid_coord=bank.max_grid_coord, mask=mask)
    num_patches = batch.image_tokens.shape[0] * batch.image_tokens.shape[1]
    patch_feat, count = mean_of_patches(feat, batch.patch_index, num_patches)
    own, image = model.own(feat), model.image(patch_feat)
    target = own_targets(batch, half_extent_m=bank.half_extent_m)
    terms = {
        "own": own_loss(own, target, is_asked(batch, mask)),
        "image": image_loss(image, batch.image_tokens.flatten(0, 1), count),
    }
    total = config.own_weight * terms["own"] + config.image_weight * terms["image"]
    if config.teacher_weight:
        with torch.no_grad():
            whole = all_levels(teacher.network, nothing_withheld(batch), max_grid_coord=bank.max_grid_coord)
            assignment = balanced_assignment(teacher.prototypes(whole))
        terms["teacher"] = distillation_loss(model.prototypes(feat), assignment, mask)
        total = total + config.teacher_weight * terms["teacher"]
    return {**terms, "total": total}


def averaged_model(average: AverageWeights, image_channels: int) -> PretrainingModel:
    """Network and heads with the averaged weights, in eval."""
    model = new_model(image_channels, seed=0)
    model.load_state_dict(average.tensors)
    return model.eval()


@torch.no_grad()
def evaluate(
    model: PretrainingModel, train_bank: CloudBank, held_out: CloudBank, config: TinyConcertoConfig
) -> dict[str, float]:
    """Both terms on held-out clouds, and the probe's value beside raw inputs and an untrained network."""
    device = next(model.parameters()).device
    losses: list[dict[str, float]] = []
    for first in range(0, len(held_out), 8):
        batch = held_out.batch(list(range(first, min(first + 8, len(held_out))))).to(device)
        terms = objective(
            model, model, batch, config=config, bank=held_out, generator=torch.Generator().manual_seed(first)
        )
        losses.append({name: float(value) for name, value in terms.items()})
    untrained = build_ptv3(TINY_NETWORK).eval().to(device)

    def features_of(network: PointTransformerV3) -> Features:
        return lambda batch: all_levels(
            network, batch.to(device), max_grid_coord=held_out.max_grid_coord
        ).cpu()

    asked = {"": features_of(model.network), "_untrained": features_of(untrained), "_raw": raw_inputs}
    return mean_of(losses) | {
        f"moved_auc{whose}": probe_moved_points(
            probe_set(features, train_bank), probe_set(features, held_out)
        )
        for whose, features in asked.items()
    }


def raw_inputs(batch: PointBatch) -> Float[Tensor, "points 9"]:
    """What the network reads of each point: place, colour, normal; zeros for what is withheld."""
    color, normal = batch.color * batch.has_color[:, None], batch.normal * batch.has_normal[:, None]
    return torch.cat([batch.coord, color, normal], dim=1)


def all_levels(
    network: PointTransformerV3, batch: PointBatch, *, max_grid_coord: int, mask: Tensor | None = None
) -> Float[Tensor, "points channels"]:
    """Features of every stage, joined, for every point."""
    return point_features(
        network,
        batch,
        max_grid_coord=max_grid_coord,
        feature_levels=len(network.config.enc_channels) - 1,
        mask=mask,
    )


def point_features(
    network: PointTransformerV3,
    batch: PointBatch,
    *,
    max_grid_coord: int,
    feature_levels: int,
    mask: Tensor | None = None,
) -> Float[Tensor, "points channels"]:
    """Features of the deepest stage and ``feature_levels`` finer ones, joined, for every point."""
    out = network(
        coord=batch.coord,
        grid_coord=batch.grid_coord,
        feat=raw_inputs(batch),
        offset=batch.offset,
        max_grid_coord=max_grid_coord,
        mask=mask,
    )
    return out.to_points(feature_levels)


def main() -> None:
    """Flags to one run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    try:
        train(tyro.cli(TinyConcertoConfig, use_underscores=True))
    except LAQError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
