"""A model as it is published: its card, the format of its config.json, and its way back."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml

from laq_model.action_model import saved_model
from laq_model.action_model.saved_model import FORMAT, NEW_SETTINGS, read_config
from laq_model.checkpoint import RunFolder, create_run
from laq_model.concerto_laq import ConcertoLAQ, ConcertoLAQConfig
from laq_model.config_file import read_settings, with_settings
from laq_model.encoder_config import EncoderConfig
from laq_model.encoder_fingerprint import token_settings
from laq_model.errors import RunError
from laq_model.evaluation.evaluate import EvaluateConfig, evaluate
from laq_model.trained_run import open_trained_run
from laq_model.training.config import TrainConfig, as_json
from laq_model.video.config import VideoDataConfig
from synthetic_store import FEATURE_CHANNELS, tokens_of
from tiny_training import MODEL

PUBLISHED = ["README.md", "config.json", "model.safetensors"]
EMBEDDED = EncoderConfig(vggt_model="embedded", concerto_model="embedded")
HELD_OUT = {"copy_ratio_hard": 0.5726, "codes_used_fraction": 0.88, "perplexity": 187.7, "num_pairs": 238.0}


def make_run(path: Path, encoder: EncoderConfig | None = None, **changes: Any) -> RunFolder:
    """A run folder with random weights, as a training leaves it."""
    encoder = encoder or EncoderConfig()
    data = VideoDataConfig(data_dir="/home/somebody/clips", frame_size=112, frame_offset=7)
    config = TrainConfig(data=data, encoder=encoder, model=MODEL, features="/scratch/tokens", **changes)
    manifest = {
        "videos": {"a.webm": 3, "b.webm": 4},
        "held_out": {"c.webm": 2},
        "skipped": {},
        "tokens": {**token_settings(encoder, data), "weights": {"concerto": "b0ee83624853a7ed"}},
    }
    run = create_run(path, config={**as_json(config), "pairs_per_step": 8}, manifest=manifest)
    torch.manual_seed(0)
    model = ConcertoLAQ(dataclasses.replace(MODEL, feature_channels=FEATURE_CHANNELS))
    run.append_metrics({"step": 100, "kind": "held_out", **HELD_OUT, "copy_ratio_hard": 0.9})
    run.append_metrics({"step": 200, "kind": "held_out", **HELD_OUT})
    run.append_metrics({"step": 210, "kind": "train", "loss": 1.0})
    run.save_checkpoint(model, torch.optim.AdamW(model.parameters()), step=210, notes={}, keep=1)
    return run


def publish(run: Path, folder: Path) -> str:
    """Save what a run trained, and give its card."""
    ConcertoLAQ.from_pretrained(run).save_pretrained(folder)
    return (folder / "README.md").read_text(encoding="utf-8")


def write_evaluation(run: RunFolder, *, model: str) -> None:
    folder = run.path / "evaluation"
    folder.mkdir()
    facts = {"run": str(run.path), "model": model, "data": "/home/somebody/clips", "frame": "camera"}
    counts = {"num_held_out_pairs": 14, "num_held_out_episodes": 7}
    (folder / "evaluation.json").write_text(json.dumps({**facts, **counts}))
    (folder / "evaluation.md").write_text(
        f"# Evaluation\n\n- run: {run.path}\n\n## Codes\n\n| | all |\n|---|---|\n| perplexity | 13.4 |\n"
        "\n## Notes\n\n- no pictures: there is no folder /home/somebody/clips/more, or none\n"
    )


# ── the card


def test_the_card_tells_data_settings_figures_and_encoders(tmp_path):
    card = publish(make_run(tmp_path / "run").path, tmp_path / "out")
    for promised in (
        "2 tokens of 8 codes for what changes in the world between two frames 7 frames apart",
        "| vggt | `facebook/VGGT-1B` |  | non-commercial use only",
        "| concerto | `concerto_base` | `b0ee83624853a7ed…` | CC-BY-NC-4.0, non-commercial",
        "`clips`: 2 videos trained on, 1 held out by a hash of their names, 0 skipped",
        "middle square at 112 × 112 pixels",
        "On 238 held-out pairs of the same data, after step 200",
        "| prediction error / error of copying, hard codes | 0.573 |",
        "Probes and controls were not measured",
    ):
        assert promised in card


def test_the_card_says_nothing_of_the_machine(tmp_path):
    encoder = EncoderConfig(vggt_weights="/home/somebody/w/my_vggt.pt")
    run = make_run(tmp_path / "run", encoder)
    write_evaluation(run, model=open_trained_run(run.path).fingerprint)
    card = publish(run.path, tmp_path / "out")
    assert "file `my_vggt.pt`" in card
    for secret in ("/home", "somebody", "/scratch", str(tmp_path)):
        assert secret not in card


def test_the_hub_can_read_the_card_s_head(tmp_path):
    publish(make_run(tmp_path / "run").path, tmp_path / "out")
    head = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert (head.library_name, head.license, head.license_name) == ("concerto-laq", "other", "see-encoders")
    assert head.base_model == ["facebook/VGGT-1B", "Pointcept/Concerto"]
    found = {result.metric_type: result.metric_value for result in head.eval_results}
    assert found == {"copy_ratio_hard": 0.5726, "codes_used_fraction": 0.88, "perplexity": 187.7}
    assert head.eval_results[0].dataset_name == "clips, held-out videos"


def test_only_free_encoders_make_a_free_model(tmp_path):
    card = publish(make_run(tmp_path / "run", EMBEDDED).path, tmp_path / "out")
    head = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert (head.license, head.base_model) == ("apache-2.0", None)
    assert "| vggt | inside the package |  | Apache-2.0, trained by this project" in card
    mixed = dataclasses.replace(EMBEDDED, concerto_model="concerto_small")
    publish(make_run(tmp_path / "mixed", mixed).path, tmp_path / "mixed_out")
    head = huggingface_hub.ModelCard.load(tmp_path / "mixed_out" / "README.md").data
    assert (head.license, head.base_model) == ("other", ["Pointcept/Concerto"])


def test_recorded_geometry_needs_no_vggt(tmp_path):
    encoder = dataclasses.replace(EMBEDDED, geometry="sensor")
    card = publish(make_run(tmp_path / "run", encoder).path, tmp_path / "out")
    assert "| vggt |" not in card
    assert "Depth and cameras are not predicted: they must be recorded with the videos." in card
    assert "encode_video" not in card  # a single file has no recorded depth


def test_the_settings_in_the_card_can_be_trained_with(tmp_path):
    card = publish(make_run(tmp_path / "run", EMBEDDED).path, tmp_path / "out")
    block = re.search(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert block
    file = tmp_path / "settings.yaml"
    file.write_text(block.group(1))
    again = with_settings(TrainConfig(), read_settings(file, TrainConfig()))
    assert (again.model, again.encoder, again.data.frame_offset) == (MODEL, EMBEDDED, 7)
    assert "output_dir" not in yaml.safe_load(block.group(1))


def test_an_evaluation_counts_while_it_is_of_these_weights(tmp_path):
    run = make_run(tmp_path / "run")
    write_evaluation(run, model=open_trained_run(run.path).fingerprint)
    card = publish(run.path, tmp_path / "out")
    assert "14 held-out pairs of 7 episodes of `clips`, motion in axes of the camera" in card
    assert "### Codes\n\n| | all |\n|---|---|\n| perplexity | 13.4 |" in card
    assert "there is no folder more, or none" in card
    other = make_run(tmp_path / "other")
    write_evaluation(other, model="0123456789ab")
    card = publish(other.path, tmp_path / "other_out")
    assert "were measured on older weights of this run, and are left out" in card
    assert "13.4" not in card


def test_a_control_is_called_one(tmp_path):
    card = publish(make_run(tmp_path / "run", shuffle_pairs=True).path, tmp_path / "out")
    assert "**This is a control: it was trained on shuffled pairs" in card


def test_a_model_without_a_run_says_that(tmp_path):
    ConcertoLAQ(MODEL).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "Nothing is known here of its training" in card
    assert "license" not in card.split("---")[1]


def test_a_record_of_another_version_can_be_loaded_but_not_published(tmp_path):
    run = make_run(tmp_path / "run")
    record = run.record
    del record["config"]["encoder"]
    (run.path / "run.json").write_text(json.dumps(record))
    model = ConcertoLAQ.from_pretrained(run.path)
    with pytest.raises(RunError, match="no model card can be written: the run's record has no 'encoder'"):
        model.save_pretrained(tmp_path / "out")


# ── there and back


def test_published_again_it_is_the_same(tmp_path):
    publish(make_run(tmp_path / "run").path, tmp_path / "a")
    publish(tmp_path / "a", tmp_path / "b")
    for name in PUBLISHED:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_is_pushed_is_our_weights_configuration_and_card_only(tmp_path, monkeypatch):
    pushed: dict[str, Any] = {}

    class Api:
        def __init__(self, token: str | None = None): ...

        def create_repo(self, *, repo_id: str, **_: Any) -> Any:
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
            pushed[repo_id] = {file.name: file.read_bytes() for file in Path(folder_path).rglob("*")}
            return "url"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    run = make_run(tmp_path / "run")
    ConcertoLAQ.from_pretrained(run.path).push_to_hub("somebody/model")
    assert sorted(pushed["somebody/model"]) == PUBLISHED
    assert b"On 238 held-out pairs" in pushed["somebody/model"]["README.md"]
    assert pushed["somebody/model"]["model.safetensors"] == (run.path / "model.safetensors").read_bytes()


def test_a_published_model_is_used_like_its_run(tmp_path):
    run = make_run(tmp_path / "run", EMBEDDED)
    publish(run.path, tmp_path / "out")
    own, published = open_trained_run(run.path), open_trained_run(tmp_path / "out")
    assert published.encoder == own.encoder
    assert published.tokens == own.tokens
    assert published.fingerprint == own.fingerprint
    assert (published.data.frame_size, published.data.frame_offset) == (112, 7)
    tokens = tokens_of("a.webm", 4)
    assert torch.equal(published.model.encode(tokens).codes, own.model.encode(tokens).codes)


def test_evaluating_a_published_model_says_what_to_give(tmp_path):
    publish(make_run(tmp_path / "run", EMBEDDED).path, tmp_path / "out")
    config = EvaluateConfig(checkpoint=tmp_path / "out", data_dir="videos", device="cpu")
    with pytest.raises(RunError, match=r"out is a published model .*--data_dir .*and --is_new_data"):
        evaluate(config)


def test_a_model_that_does_not_name_its_tokens_is_refused(tmp_path):
    ConcertoLAQ(MODEL).save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"does not say which tokens its model reads \(no `tokens` in config"):
        open_trained_run(tmp_path)


def test_checkpoints_carry_no_card(tmp_path):
    run = make_run(tmp_path / "run")
    [checkpoint] = run.checkpoints()
    assert not (checkpoint / "README.md").exists()


# ── the format of config.json


def test_a_file_without_a_number_is_of_the_time_before_numbers(tmp_path):
    run = make_run(tmp_path / "run")
    file = run.path / "config.json"
    settings = json.loads(file.read_text())
    assert settings.pop("format") == FORMAT
    for brought in NEW_SETTINGS.values():
        for name in brought:
            settings.pop(name)
    file.write_text(json.dumps(settings))
    config = read_config(run.path)
    later = {name: value for brought in NEW_SETTINGS.values() for name, value in brought.items()}
    assert config == dataclasses.replace(MODEL, feature_channels=FEATURE_CHANNELS, **later)


def test_settings_that_came_later_mean_what_models_did_before(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    file = run.path / "config.json"
    settings = json.loads(file.read_text())
    del settings["geometry_weight"], settings["mlp_ratio"]
    file.write_text(json.dumps(settings))
    with pytest.raises(RunError, match=r"missing settings \['geometry_weight', 'mlp_ratio'\]"):
        read_config(run.path)
    monkeypatch.setattr(saved_model, "FORMAT", FORMAT + 2)
    later = {FORMAT + 1: {"geometry_weight": 0.25}, FORMAT + 2: {"mlp_ratio": 2}}
    monkeypatch.setattr(saved_model, "NEW_SETTINGS", {**NEW_SETTINGS, **later})
    config = read_config(run.path)
    assert (config.geometry_weight, config.mlp_ratio) == (0.25, 2)


@pytest.mark.parametrize("number", [FORMAT + 1, -1, "1"])
def test_a_newer_format_is_refused(number, tmp_path):
    run = make_run(tmp_path / "run")
    file = run.path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": number}))
    with pytest.raises(
        RunError, match=rf"is of format {number}, this version reads 0 to {FORMAT}; install a newer"
    ):
        read_config(run.path)


def test_no_setting_comes_or_goes_without_a_new_format():
    before_numbers = {
        *("feature_channels", "dim", "codebook_size", "code_seq_len", "spatial_depth", "temporal_depth"),
        *("predictor_depth", "num_heads", "mlp_ratio", "quantizer", "quantizer_dim", "num_changed_tokens"),
        *("num_context_tokens", "num_query_tokens", "geometry_weight"),
    }
    brought = {name for settings in NEW_SETTINGS.values() for name in settings}
    now = {field.name for field in dataclasses.fields(ConcertoLAQConfig)}
    assert now == before_numbers | brought, (
        "raise FORMAT in action_model/saved_model.py, and say in NEW_SETTINGS what older files mean"
    )
    assert sorted(NEW_SETTINGS) == list(range(1, FORMAT + 1))
