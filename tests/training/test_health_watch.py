"""Looks at a run: what they see in a real model, and that each trouble is said once."""

import json

import torch

from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig
from laq_model.structures import GEOMETRY_CHANNELS, OCCUPIED, PairTokens
from laq_model.training.health_watch import HealthWatch

CONFIG = ConcertoLAQConfig(
    feature_channels=2,
    dim=16,
    num_heads=2,
    codebook_size=16,
    code_seq_len=2,
    quantizer_dim=8,
    spatial_depth=1,
    temporal_depth=1,
    predictor_depth=1,
)
SOUND = {
    "num_pairs": 100.0,
    "perplexity.0": 9.0,
    "perplexity.1": 8.0,
    "copy_ratio_hard": 0.4,
    "identical_token_fraction": 0.1,
}
LOSSES = {"prediction_loss": 1.0, "hard_code_loss": 1.05}


def stepped_model() -> ConcertoLAQ:
    """A model after one step, its gradients still there."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    pair = PairTokens(
        feat=torch.randn(6, 2, 10, 2 + GEOMETRY_CHANNELS, generator=generator),
        state=torch.full((6, 2, 10), OCCUPIED),
        position=torch.rand(6, 10, 3, generator=generator) * 2 - 1,
        is_valid=torch.ones(6, 10, dtype=torch.bool),
    )
    pair.state[:, 1, :3] = 1  # some places are vacated, so both states of a place are learned
    model = ConcertoLAQ(CONFIG)
    model(pair, generator=generator, hard_share=0.5).loss.backward()
    return model


def test_a_sound_model_passes_every_look():
    watch, model = HealthWatch(), stepped_model()
    assert watch.look(model, LOSSES, SOUND, progress=0.2) == {}
    assert watch.look(model, LOSSES, SOUND, progress=0.9) == {}


def test_trouble_is_found_in_the_model_itself():
    model = stepped_model()
    with torch.no_grad():
        model.quantizer.codebook.weight[5] = model.quantizer.codebook.weight[4]
    model.forward_dynamics.head.bias.grad = None
    said = HealthWatch().look(model, LOSSES, SOUND, progress=0.2)
    assert said["duplicates"].startswith("2 of 16 codes have the place of another")
    assert said["idle_parameters"] == "no gradient reaches forward_dynamics.head.bias"
    assert set(said) == {"duplicates", "idle_parameters"}


def test_each_trouble_is_said_once():
    watch, model = HealthWatch(), stepped_model()
    bad = {**SOUND, "perplexity.1": 1.0, "copy_ratio_hard": 1.2}
    assert set(watch.look(model, LOSSES, bad, progress=0.05)) == {"low_perplexity"}
    assert set(watch.look(model, LOSSES, bad, progress=0.5)) == {"copying"}
    leaking = {**LOSSES, "hard_code_loss": 1.3}
    said = watch.look(model, leaking, bad, progress=0.6)
    assert set(said) == {"leak"}
    assert "hard codes have 30 % more error" in said["leak"]


def test_a_resumed_watch_goes_on_where_it_was():
    """Through JSON, as a checkpoint keeps it: nothing is said twice, and falls are seen across the break."""
    bad = {**SOUND, "perplexity.1": 1.0}
    watch, model = HealthWatch(), stepped_model()
    watch.look(model, LOSSES, bad, progress=0.3)
    resumed = HealthWatch(json.loads(json.dumps(watch.state())))
    for old_or_new in (watch, resumed):
        assert old_or_new.look(model, LOSSES, bad, progress=0.5) == {}
    falling = {**SOUND, "perplexity.0": 2.0}
    assert watch.look(model, LOSSES, falling, progress=0.6) == resumed.look(
        model, LOSSES, falling, progress=0.6
    )
