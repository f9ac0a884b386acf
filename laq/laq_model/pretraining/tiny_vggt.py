"""Train the tiny VGGT on rendered scenes.

python -m laq_model.pretraining.tiny_vggt --scenes DIR --output DIR
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import tyro
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..devices import chosen_device, warn_of_slow_bfloat16
from ..errors import ConfigError, LAQError
from ..vggt import VGGT, build_vggt, load_official_weights
from ..weights import read_weights
from .finer_patches import with_patch_size
from .muon import Muon
from .processes import Processes, join_processes, leave_processes
from .run_state import (
    AverageWeights,
    learning_rate_share,
    load_run_state,
    report,
    save_network,
    save_run_state,
)
from .training_scenes import SceneBatch, TrainingScenes
from .vggt_evaluation import evaluate
from .vggt_in_training import TINY_NETWORK, VGGTInTraining, new_network
from .vggt_losses import VGGTLossWeights, scene_target, vggt_loss

log = logging.getLogger(__name__)

NETWORK_FILE = "vggt_tiny.safetensors"
CAMERA_RATE_SHARE = 0.3  # of the learning rate: a step in each of its four refinements adds up
VIEWS_OF_A_STEP = (2, 2, 1, 2, 2, 4, 2, 2, 3, 2)  # pairs matter most; cycled


@dataclass(frozen=True)
class TinyVGGTConfig:
    """One training run."""

    scenes: str
    """Folder of rendered training scenes."""
    output: str
    """Folder of the run: state, metrics and the network."""
    resume: bool = False
    """Go on from the state in the output folder."""
    start_from: str = ""
    """Weights file to start from instead of random weights, of this network or of one with other patches; a
    resumed run no longer needs it."""
    new_camera_head: bool = False
    """Leave the camera head out of what ``start_from`` gives."""
    num_steps: int = 6000
    """Optimiser steps in all."""
    warmup_steps: int = 100
    """Steps of the learning rate's rise."""
    decay_steps: int = 1500
    """Steps of its fall at the end."""
    frames_per_step: int = 32
    """Frames of a step, whatever number of views the scenes have in it."""
    learning_rate: float = 1e-3
    """On the plateau."""
    weight_decay: float = 0.05
    """AdamW's, for matrices only."""
    gradient_clip: float = 1.0
    """Largest norm of a step's gradient."""
    average_decay: float = 0.998
    """Of the exponential average of the weights, which is what is saved."""
    held_out_clips: int = 64
    """Held-out clips of each evaluation, two views each."""
    save_every_steps: int = 250
    """Steps between states, evaluations and network files."""
    seed: int = 0
    """Of the initial weights and the drawing of scenes."""
    device: str = ""
    """cpu or cuda; empty: the best there is. Scenes are read and changed on the CPU."""
    bfloat16: bool = True
    """Matrix products in bfloat16, everything else in float32: fast on GPUs and on CPUs that have it (flags
    avx512_bf16 or amx_bf16), many times slower on others."""
    loss: VGGTLossWeights = field(default_factory=VGGTLossWeights)

    def __post_init__(self) -> None:
        for name in ("num_steps", "frames_per_step", "learning_rate", "save_every_steps", "held_out_clips"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


def start_network(config: TinyVGGTConfig) -> VGGT:
    """The network that a run begins with: random, or the weights it was told to start from."""
    network = new_network(TINY_NETWORK, config.seed)
    if config.start_from and not config.resume:
        tensors = with_patch_size(
            read_weights(config.start_from).tensors,
            patch_size=TINY_NETWORK["patch_size"],
            img_size=TINY_NETWORK["img_size"],
        )
        if config.new_camera_head:
            tensors |= {
                name: value for name, value in network.state_dict().items() if name.startswith("camera_head.")
            }
        load_official_weights(network, tensors)
    return network


def train(config: TinyVGGTConfig) -> dict[str, float]:
    """Train, save as it goes, and return the last held-out figures; only the first process has any."""
    processes = join_processes(chosen_device(config.device))
    if config.frames_per_step % processes.count:
        raise ConfigError(
            f"frames_per_step must divide by {processes.count} processes, got {config.frames_per_step}"
        )
    if config.bfloat16:
        warn_of_slow_bfloat16(processes.device, instead="--no_bfloat16")
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = TrainingScenes(config.scenes)
    held_out = TrainingScenes(config.scenes, held_out="unseen tasks")
    model = VGGTInTraining(start_network(config)).to(processes.device)
    model.network.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AverageWeights(model.network, config.average_decay)
    optimizers = build_optimizers(model, config)
    first_step = 0
    if config.resume:
        first_step = load_run_state(folder, network=model, average=average, optimizers=optimizers)
    if processes.is_first:
        (folder / "config.json").write_text(json.dumps({**asdict(config), "network": TINY_NETWORK}, indent=2))
    log.info(
        "%d clips, %d held out; %.2f M parameters; from step %d",
        len(scenes), len(held_out), sum(p.numel() for p in model.network.parameters()) / 1e6, first_step,
    )  # fmt: skip
    metrics: dict[str, float] = {}
    started, sums = time.perf_counter(), {"frames": 0.0}
    for step in range(first_step, config.num_steps):
        num_views = VIEWS_OF_A_STEP[step % len(VIEWS_OF_A_STEP)]
        batch = scenes.draw(
            num_frames=config.frames_per_step // processes.count,
            num_views=num_views,
            seed=config.seed,
            step=step * processes.count + processes.rank,
        )
        terms = training_step(
            model,
            batch.to(processes.device),
            optimizers=optimizers,
            config=config,
            step=step,
            processes=processes,
        )
        if not processes.is_first:
            continue
        average.update(model.network)
        num_frames = float(batch.frames.shape[0] * num_views * processes.count)
        for name, value in {**terms, "frames": num_frames}.items():
            sums[name] = sums.get(name, 0.0) + value
        done = step + 1
        if done % 50 == 0:
            report(folder, {"step": done, **_means(sums, 50), **_speed(sums["frames"], started)})
            started, sums = time.perf_counter(), {"frames": 0.0}
        if done % config.save_every_steps == 0 or done == config.num_steps:
            save_run_state(folder, step=done, network=model, average=average, optimizers=optimizers)
            averaged = average_network(average).to(processes.device)
            metrics = evaluate(averaged, held_out, num_clips=config.held_out_clips)
            report(folder, {"step": done, **{f"held_out.{name}": value for name, value in metrics.items()}})
            save_network(
                folder / NETWORK_FILE,
                average.tensors,
                config=TINY_NETWORK,
                provenance={
                    "steps": done,
                    "clips": len(scenes),
                    "data": "rendered scenes",
                    "held_out": metrics,
                },
            )
            started = time.perf_counter()
    return metrics


def build_optimizers(model: nn.Module, config: TinyVGGTConfig) -> list[torch.optim.Optimizer]:
    """Muon for the aggregator's matrices, AdamW for everything else; norms and biases do not decay.

    Under Muon the camera head grew along what all pictures share until it answered the same for all.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if p.ndim == 2 and "blocks." in name]
    is_hidden = {id(p) for p in hidden}
    rest = [(name, p) for name, p in named if id(p) not in is_hidden]
    groups = [
        {
            "params": [
                p
                for name, p in rest
                if (p.ndim > 1) == is_matrix and name.startswith("network.camera_head.") == is_camera
            ],
            "weight_decay": config.weight_decay if is_matrix else 0.0,
            "rate_share": CAMERA_RATE_SHARE if is_camera else 1.0,
        }
        for is_matrix in (True, False)
        for is_camera in (True, False)
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    muon = Muon(
        hidden,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        dtype=torch.bfloat16 if config.bfloat16 else torch.float32,
    )
    return [adamw, muon]


def training_step(
    model: VGGTInTraining,
    batch: SceneBatch,
    *,
    optimizers: list[torch.optim.Optimizer],
    config: TinyVGGTConfig,
    step: int,
    processes: Processes,
) -> dict[str, float]:
    """One optimiser step; the value of every term before it, on this process's share."""
    share = learning_rate_share(
        step, num_steps=config.num_steps, warmup_steps=config.warmup_steps, decay_steps=config.decay_steps
    )
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = config.learning_rate * share * group.get("rate_share", 1.0)
    # On CPUs the fused attention's backward pass in bfloat16 takes four times as long as plain products; in
    # float32 it is the faster one.
    device = batch.frames.device
    is_slow = config.bfloat16 and device.type == "cpu"
    attention = sdpa_kernel(SDPBackend.MATH) if is_slow else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16), attention:
        out, flow, log_attention = model(batch.frames)
    terms = vggt_loss(
        out.depth.float(),
        out.depth_conf.float(),
        out.pose_enc.float(),
        flow,
        log_attention,
        target=scene_target(batch.recorded),
        pixel_weight=batch.pixel_weight,
        weights=config.loss,
    )
    model.zero_grad(set_to_none=True)
    terms["total"].backward()
    processes.average_gradients(model.parameters())
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
    for optimizer in optimizers:
        optimizer.step()
    return {name: float(value.detach()) for name, value in terms.items()} | {"gradient_norm": float(norm)}


def average_network(average: AverageWeights) -> VGGT:
    """A network with the averaged weights, in eval."""
    network = build_vggt(TINY_NETWORK)
    network.load_state_dict(average.tensors)
    return network.eval()


def _means(sums: dict[str, float], count: int) -> dict[str, float]:
    return {name: value / count for name, value in sums.items() if name != "frames"}


def _speed(num_frames: float, started: float) -> dict[str, float]:
    return {"frames_per_s": num_frames / (time.perf_counter() - started)}


def main() -> None:
    """Flags to one run."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    try:
        train(tyro.cli(TinyVGGTConfig, use_underscores=True))
    except LAQError as error:
        sys.exit(f"error: {error}")
    finally:
        leave_processes()


if __name__ == "__main__":
    main()
