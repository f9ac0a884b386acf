"""A model on disk, and what cannot be loaded."""

from __future__ import annotations

import json

import pytest
import torch

from laq_model.concerto_laq import ConcertoLAQ
from laq_model.errors import RunError, WeightsError
from moving_box import (
    SMALL,
    build,
    moving_box,
)


def test_a_saved_model_comes_back_the_same(tmp_path):
    tokens, _ = moving_box(6)
    model = build()
    model.save_pretrained(tmp_path)
    again = ConcertoLAQ.from_pretrained(tmp_path)
    assert not again.training
    assert again.config == SMALL
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.encode(tokens).codes, again.encode(tokens).codes)
    assert ConcertoLAQ.from_pretrained(str(tmp_path)).config == SMALL


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path):
    with pytest.raises(RunError, match=r"no folder /nowhere/at/all; give a run folder"):
        ConcertoLAQ.from_pretrained("/nowhere/at/all")
    with pytest.raises(RunError, match=r"no folder nobody/nothing, and no model of that name"):
        ConcertoLAQ.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no config\.json"):
        ConcertoLAQ.from_pretrained(tmp_path / "empty")

    folder = tmp_path / "model"
    build().save_pretrained(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
        ConcertoLAQ.from_pretrained(folder)

    (folder / "model.safetensors").write_bytes(whole)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "temporal_depth": 2}))
    with pytest.raises(WeightsError, match=r"missing: inverse_dynamics\.temporal\.1"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({**settings, "colour": "red"}))
    with pytest.raises(RunError, match=r"unknown settings \['colour'\]"):
        ConcertoLAQ.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        ConcertoLAQ.from_pretrained(folder)
