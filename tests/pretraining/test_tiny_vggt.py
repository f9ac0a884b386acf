import math

import numpy as np
import pytest
import torch
from test_training_scenes import write_shard
from torch.testing import assert_close

from laq_model.errors import ConfigError, RunError
from laq_model.geometry import unproject
from laq_model.pretraining import tiny_vggt, vggt_evaluation
from laq_model.pretraining.processes import Processes
from laq_model.pretraining.run_state import AverageWeights, save_network
from laq_model.pretraining.tiny_vggt import (
    TinyVGGTConfig,
    build_optimizers,
    start_network,
    train,
    training_step,
)
from laq_model.pretraining.training_scenes import TrainingScenes
from laq_model.pretraining.vggt_evaluation import evaluate, mean_depth_map
from laq_model.pretraining.vggt_in_training import TYPICAL_POSE, VGGTInTraining, new_network
from laq_model.pretraining.vggt_losses import VGGTLossWeights, scene_target, vggt_loss
from laq_model.vggt import build_vggt, load_official_weights
from laq_model.weights import read_weights

MICRO_NETWORK = {
    "img_size": 28,
    "patch_size": 14,
    "embed_dim": 32,
    "vit_depth": 1,
    "vit_num_heads": 2,
    "depth": 1,
    "num_heads": 2,
    "camera_trunk_depth": 1,
    "camera_num_heads": 2,
    "dpt_features": 16,
    "dpt_out_channels": [8, 8, 8, 8],
    "dpt_layers": [0, 0, 0, 0],
}


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path, "0000", clips=4)
    write_shard(tmp_path, "10000", clips=2, prefix="heldout_")
    return tmp_path


@pytest.fixture
def micro(monkeypatch):
    monkeypatch.setattr(tiny_vggt, "TINY_NETWORK", MICRO_NETWORK)


def config_of(folder, **changes) -> TinyVGGTConfig:
    defaults = {
        "scenes": str(folder),
        "output": str(folder / "run"),
        "num_steps": 4,
        "warmup_steps": 1,
        "decay_steps": 1,
        "frames_per_step": 4,
        "held_out_clips": 2,
        "save_every_steps": 2,
        "learning_rate": 3e-3,
        "bfloat16": False,
    }
    return TinyVGGTConfig(**{**defaults, **changes})


def test_every_parameter_that_is_read_gets_a_gradient_and_the_loss_falls(folder):
    config = config_of(folder, num_steps=100)
    model = VGGTInTraining(new_network(MICRO_NETWORK, seed=0))
    optimizers = build_optimizers(model, config)
    batch = TrainingScenes(folder).read(np.arange(4), np.tile(np.arange(2), (4, 1)))
    losses, without = [], {name for name, _ in model.named_parameters()}
    for step in range(25):
        terms = training_step(
            model, batch, optimizers=optimizers, config=config, step=step, processes=Processes()
        )
        losses.append(terms["total"])
        without -= {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert losses[-1] < 0.7 * losses[0]
    # DINOv2's mask token takes no part.
    assert without == {"network.aggregator.patch_embed.mask_token"}


def test_a_step_stays_on_its_device(folder, monkeypatch):
    """On the device without numbers: what is made on the way and forgotten on the CPU is refused there."""
    # Two checks of values, which this device has not: focal lengths, and quaternions of length zero.
    monkeypatch.setattr(unproject, "_check_focal_length", lambda intrinsics: None)
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: False)
    meta = torch.device("meta")
    model = VGGTInTraining(new_network(MICRO_NETWORK, seed=0)).to(meta)
    average = AverageWeights(model.network, 0.9)
    batch = TrainingScenes(folder).read(np.arange(4), np.tile(np.arange(2), (4, 1))).to(meta)
    out, flow, log_attention = model(batch.frames)
    terms = vggt_loss(
        out.depth,
        out.depth_conf,
        out.pose_enc,
        flow,
        log_attention,
        target=scene_target(batch.recorded),
        pixel_weight=batch.pixel_weight,
        weights=VGGTLossWeights(),
    )
    terms["total"].backward()
    for optimizer in build_optimizers(model, config_of(folder)):
        optimizer.step()
    average.update(model.network)
    assert {term.device for term in terms.values()} == {meta}
    assert {tensor.device for tensor in average.tensors.values()} == {meta}


def test_optimizers_share_all_parameters_without_overlap(folder):
    network = new_network(MICRO_NETWORK, seed=0)
    seen = [
        id(p)
        for o in build_optimizers(network, config_of(folder))
        for g in o.param_groups
        for p in g["params"]
    ]
    assert sorted(seen) == sorted(id(p) for p in network.parameters())


def test_camera_head_learns_at_its_own_rate(folder):
    model = VGGTInTraining(new_network(MICRO_NETWORK, seed=0))
    optimizers = build_optimizers(model, config_of(folder))
    share = {id(p): g.get("rate_share", 1.0) for o in optimizers for g in o.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        assert share[id(parameter)] == (0.3 if ".camera_head." in name else 1.0), name


def test_exported_network_gives_the_depth_of_the_one_that_was_trained(tmp_path):
    network = new_network(MICRO_NETWORK, seed=1).eval()
    path = tmp_path / "net.safetensors"
    save_network(path, AverageWeights(network, 0.9).tensors, config=MICRO_NETWORK, provenance={})
    file = read_weights(path)
    loaded = build_vggt(file.config).eval()
    load_official_weights(loaded, file.tensors)
    frames = torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = network(frames), loaded(frames)
    # float16 keeps eleven bits: 5e-4 of each weight, a few times that after some layers.
    assert_close(after.depth, before.depth, rtol=5e-3, atol=0)
    assert_close(after.pose_enc, before.pose_enc, rtol=0, atol=5e-3)


def test_a_run_resumes_where_it_stopped(folder, micro):
    train(config_of(folder, output=str(folder / "whole")))
    train(config_of(folder, output=str(folder / "parts"), num_steps=2, decay_steps=1))
    state = torch.load(folder / "parts" / "resume.pt", weights_only=True)
    assert state["step"] == 2
    figures = train(config_of(folder, output=str(folder / "parts"), resume=True))
    assert torch.load(folder / "parts" / "resume.pt", weights_only=True)["step"] == 4
    assert 0 <= figures["delta_1.25"] <= 1
    file = read_weights(folder / "parts" / "vggt_tiny.safetensors")
    load_official_weights(build_vggt(file.config), file.tensors)


def test_a_run_starts_from_the_weights_it_is_given(folder, micro):
    given = new_network(MICRO_NETWORK, seed=5)
    path = folder / "given.safetensors"
    save_network(path, given.state_dict(), config=MICRO_NETWORK, provenance={})
    # So small a rate leaves the weights where they were, up to float16.
    train(config_of(folder, start_from=str(path), num_steps=1, learning_rate=1e-9))
    saved = read_weights(folder / "run" / "vggt_tiny.safetensors").tensors
    for name, value in given.state_dict().items():
        assert_close(saved[name].float(), value.half().float(), rtol=1e-3, atol=1e-6)


def test_a_new_camera_head_is_all_that_is_not_taken_over(folder, micro):
    given = new_network(MICRO_NETWORK, seed=5)
    path = folder / "given.safetensors"
    save_network(path, given.state_dict(), config=MICRO_NETWORK, provenance={})
    started = start_network(config_of(folder, start_from=str(path), new_camera_head=True)).state_dict()
    fresh = new_network(MICRO_NETWORK, seed=0).state_dict()
    for name, value in started.items():
        source = fresh[name] if name.startswith("camera_head.") else given.state_dict()[name].half().float()
        assert torch.equal(value, source), name


def test_cameras_of_a_new_network_are_typical_ones(folder):
    network = new_network(MICRO_NETWORK, seed=0).eval()
    with torch.no_grad():
        pose = network(torch.rand(1, 2, 3, 28, 28)).pose_enc
    # Random weights add a little: four steps through weights of spread 0.02.
    assert_close(pose, torch.tensor(TYPICAL_POSE).expand(1, 2, 9), rtol=0, atol=0.1)


def test_resume_without_a_state_is_an_error(folder, micro):
    with pytest.raises(RunError, match="nothing to resume"):
        train(config_of(folder, resume=True))


def test_settings_are_checked(folder):
    with pytest.raises(ConfigError, match="frames_per_step must be positive, got 0"):
        config_of(folder, frames_per_step=0)


def test_evaluation_scores_a_perfect_answer_perfectly(folder, monkeypatch):
    scenes = TrainingScenes(folder, held_out="unseen tasks")

    def truth(network, frames):
        batch = scenes.read(np.arange(2), np.tile(np.arange(2), (2, 1)))
        assert_close(frames, batch.frames)
        return batch.recorded

    monkeypatch.setattr(vggt_evaluation, "predict_geometry", truth)
    figures = evaluate(build_vggt(MICRO_NETWORK), scenes, num_clips=2)
    assert figures["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert figures["delta_1.25"] == 1
    assert figures["focal_rel"] == pytest.approx(0, abs=1e-6)
    assert figures["plane.abs_rel"] > 0.02


def test_mean_depth_map_is_in_scene_units(folder):
    depth = mean_depth_map(TrainingScenes(folder), num_clips=4, seed=0)
    assert depth.shape == (28, 28)
    assert math.isclose(float(depth.mean()), 1.0, abs_tol=0.2)
