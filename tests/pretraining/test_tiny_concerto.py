from dataclasses import replace

import numpy as np
import pytest
import torch
from test_tiny_vggt import MICRO_NETWORK
from test_training_scenes import write_shard
from torch.testing import assert_close

from laq_model.encoder_config import EncoderConfig
from laq_model.errors import ConfigError
from laq_model.geometry_source import SensorSource
from laq_model.pretraining import evaluate_concerto, tiny_concerto
from laq_model.pretraining.evaluate_concerto import EvaluateConcertoConfig
from laq_model.pretraining.point_clouds import CloudBank, build_clouds
from laq_model.pretraining.point_probe import probe_set
from laq_model.pretraining.run_state import save_network
from laq_model.pretraining.tiny_concerto import TinyConcertoConfig, new_model, objective, train
from laq_model.pretraining.training_scenes import HELD_OUT, TrainingScenes
from laq_model.pretraining.vggt_in_training import new_network
from laq_model.ptv3 import build_ptv3, load_official_weights
from laq_model.weights import read_weights

MICRO_CONCERTO = {
    "in_channels": 9,
    "order": ["z", "hilbert"],
    "stride": [2],
    "enc_depths": [1, 1],
    "enc_channels": [16, 32],
    "enc_num_head": [1, 2],
    "enc_patch_size": [32, 32],
    "mlp_ratio": 2,
    "drop_path": 0.0,
    "mask_token": True,
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_concerto, "TINY_NETWORK", MICRO_CONCERTO)
    write_shard(tmp_path, "0000", clips=4)
    for prefix in HELD_OUT.values():
        write_shard(tmp_path, "10000", clips=2, prefix=prefix)
    weights = tmp_path / "vggt.safetensors"
    tensors = new_network(MICRO_NETWORK, seed=0).state_dict()
    save_network(weights, tensors, config=MICRO_NETWORK, provenance={})
    return TinyConcertoConfig(
        scenes=str(tmp_path),
        vggt_weights=str(weights),
        output=str(tmp_path / "run"),
        num_clips=4,
        num_steps=2,
        warmup_steps=1,
        decay_steps=1,
        clouds_per_step=2,
        save_every_steps=2,
        learning_rate=3e-3,
        teacher_weight=0.5,
    )


def test_clouds_know_their_patch_and_what_moved(config):
    scenes = TrainingScenes(config.scenes)
    vggt = new_network(MICRO_NETWORK, seed=0).eval()
    config_of_clouds = EncoderConfig(depth_edge_ratio=9.0)
    clouds = build_clouds(SensorSource(), vggt, scenes, config=config_of_clouds, clips=np.array([0, 1]))
    assert len(clouds) == 4
    assert [bool(cloud.is_still) for cloud in clouds] == [True, True, False, False]
    # A scene is four flat walls, one for each patch: what a patch sees has one colour.
    for cloud in clouds:
        for patch in cloud.patch_index.unique():
            assert cloud.color[cloud.patch_index == patch].std(dim=0).max() < 1e-3
    depth = scenes.read(np.array([0]), np.array([[0, 1]])).recorded.depth[0]
    wall_moved = ((depth[1] - depth[0]).abs() > 0.03)[::14, ::14].flatten()
    assert torch.equal(clouds[0].has_moved, wall_moved[clouds[0].patch_index])


def test_joined_clouds_are_the_clouds(config):
    bank = tiny_concerto.build_bank(config, tiny_concerto.read_vggt(config.vggt_weights))
    assert len(bank) == 8
    joined, single = bank.batch([3, 5]), bank.batch([5])
    first = int(joined.offset[0])
    assert_close(joined.coord[first:], single.coord)
    assert_close(joined.patch_index[first:], single.patch_index + 4)
    assert torch.equal(
        bank.draw(num_clouds=2, seed=0, step=1).coord, bank.draw(num_clouds=2, seed=0, step=1).coord
    )


def test_the_loss_falls_and_every_parameter_learns(config):
    bank = tiny_concerto.build_bank(config, tiny_concerto.read_vggt(config.vggt_weights))
    config = replace(config, num_steps=100)
    model, teacher = new_model(32, seed=0).train(), new_model(32, seed=1).eval()
    optimizers = tiny_concerto.build_optimizers(model, config)
    batch = bank.batch([0, 1])
    losses = []
    for step in range(25):
        terms = tiny_concerto.training_step(
            model, teacher, batch, optimizers=optimizers, config=config, step=step, bank=bank
        )
        losses.append([terms["own"] + terms["image"], terms["teacher"]])
    first, last = np.mean(losses[:2], axis=0), np.mean(losses[-5:], axis=0)
    assert last[0] < 0.7 * first[0]
    assert last[1] < 0.95 * first[1]
    assert [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ] == []


def test_what_is_hidden_does_not_reach_the_network(config):
    """Other colours and normals under the mask change no prediction, so the answer cannot be read off."""
    bank = tiny_concerto.build_bank(config, tiny_concerto.read_vggt(config.vggt_weights))
    model, batch = new_model(32, seed=0).eval(), bank.batch([0])
    hidden = torch.arange(len(batch.coord)) % 2 == 0
    changed = replace(
        batch,
        color=torch.where(hidden[:, None], 1 - batch.color, batch.color),
        normal=torch.where(hidden[:, None], -batch.normal, batch.normal),
    )
    with torch.no_grad():
        a, b = (
            tiny_concerto.all_levels(model.network, x, max_grid_coord=bank.max_grid_coord, mask=hidden)
            for x in (batch, changed)
        )
    assert_close(a, b)


def test_a_run_leaves_a_network_that_loads_strictly(config):
    figures = train(config)
    file = read_weights(f"{config.output}/concerto_embedded.safetensors")
    load_official_weights(build_ptv3(file.config), file.tensors)
    assert file.config == MICRO_CONCERTO
    assert figures["own"] > 0
    train(replace(config, num_steps=4, resume=True))
    assert torch.load(f"{config.output}/resume.pt", weights_only=True)["step"] == 4


def test_the_mask_is_drawn_again_for_each_step(config):
    bank = tiny_concerto.build_bank(config, tiny_concerto.read_vggt(config.vggt_weights))
    assert isinstance(bank, CloudBank)
    model, batch = new_model(32, seed=0).eval(), bank.batch([0, 1, 2, 3])
    with torch.no_grad():
        values = []
        for seed in (1, 1, 2):
            generator = torch.Generator().manual_seed(seed)
            terms = objective(model, model, batch, config=config, bank=bank, generator=generator)
            values.append(float(terms["own"]))
    assert values[0] == values[1] != values[2]


def test_evaluation_asks_the_file_the_untrained_network_and_the_raw_inputs(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        evaluate_concerto, "with_preset", lambda encoder, preset: replace(encoder, feature_levels=1)
    )
    monkeypatch.setitem(
        evaluate_concerto.PROBES,
        "moved_auc",
        lambda train, held_out: held_out.feat.abs().mean().item(),
    )
    torch.manual_seed(3)
    path = tmp_path / "untrained.safetensors"
    save_network(path, build_ptv3(MICRO_CONCERTO).state_dict(), config=MICRO_CONCERTO, provenance={})
    same, other = (
        evaluate_concerto.evaluate_file(
            EvaluateConcertoConfig(
                scenes=config.scenes,
                vggt_weights=config.vggt_weights,
                weights=str(path),
                recorded_share=1.0,
                num_clips=4,
                seed=seed,
            )
        )["unseen tasks"]
        for seed in (3, 4)
    )
    # The file holds what seed 3 starts from, in float16: eleven bits of each weight.
    assert same["moved_auc"] == pytest.approx(same["moved_auc_untrained"], rel=5e-3)
    assert abs(other["moved_auc"] / other["moved_auc_untrained"] - 1) > 1e-2
    held_out = tiny_concerto.build_bank(
        replace(config, recorded_share=1.0, seed=3),
        tiny_concerto.read_vggt(config.vggt_weights),
        held_out="unseen tasks",
    )
    raw = probe_set(tiny_concerto.raw_inputs, held_out).feat.abs().mean()
    assert same["moved_auc_raw"] == pytest.approx(float(raw))


def test_evaluation_checks_its_settings():
    with pytest.raises(ConfigError, match="num_clips must be at least 1, got 0"):
        EvaluateConcertoConfig(scenes="", vggt_weights="", weights="", num_clips=0)
