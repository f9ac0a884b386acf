"""Labels of a trained run: every pair once, from videos or from their store, whatever breaks on the way."""

import json
import shutil
import signal
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from fake_encoder import FakeEncoder, fake_config
from laq_model import precompute as precompute_module
from laq_model import trained_run
from laq_model.checkpoint import open_run
from laq_model.concerto_laq import ConcertoLAQ
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.feature_store import FeatureStore
from laq_model.labelling import token_source
from laq_model.labelling.config import LabelConfig
from laq_model.labelling.label import label
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.training.loop import train
from laq_model.video.config import VideoDataConfig
from tiny_training import MODEL, start_python, tiny_config
from written_videos import write_video

DATA = VideoDataConfig(frame_size=112, frame_offset=5, num_workers=2, held_out_fraction=0.3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos of 9 to 14 frames, their store, and a run trained from it."""
    root = tmp_path_factory.mktemp("made")
    for number in range(6):
        write_video(root / "videos" / f"v{number}.webm", 9 + number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precompute_module, "build_encoder", lambda config, device: FakeEncoder())
        precompute(
            PrecomputeConfig(
                output_dir=root / "store",
                shard_pairs=10,
                device="cpu",
                data=replace(DATA, data_dir=str(root / "videos")),
                encoder=fake_config(),
            )
        )
    train(tiny_config(root / "store", root / "run", data=DATA, encoder=fake_config(), num_steps=6))
    return root


@pytest.fixture
def encoder(monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr(token_source, "build_encoder", lambda config, device: encoder)
    return encoder


def config_for(made, output, **changes) -> LabelConfig:
    config = LabelConfig(
        checkpoint=made / "run",
        data_dir=str(made / "videos"),
        output=output,
        batch_size=3,
        part_pairs=8,
        device="cpu",
    )
    return replace(config, **changes)


ALL_PAIRS = [(f"v{v}.webm", start, start + 5) for v in range(6) for start in range(4 + v)]


def pairs_in(path) -> list[tuple[str, int, int]]:
    rows = pq.read_table(path).to_pylist()
    return [(row["video"], row["current_frame"], row["future_frame"]) for row in rows]


def test_every_pair_is_labelled_once_in_order(made, tmp_path, encoder):
    result = label(config_for(made, tmp_path / "labels.parquet"))
    assert pairs_in(tmp_path / "labels.parquet") == ALL_PAIRS
    assert (result.num_pairs, result.skipped) == (len(ALL_PAIRS), ())
    assert [path.name for path in tmp_path.iterdir()] == ["labels.parquet"]


def test_labels_are_the_models_codes_and_errors(made, tmp_path):
    label(config_for(made, tmp_path / "labels.parquet", data_dir="", features=str(made / "store")))
    table = pq.read_table(tmp_path / "labels.parquet").to_pydict()
    model = ConcertoLAQ.from_pretrained(made / "run")
    tokens = FeatureStore(made / "store").read(range(len(ALL_PAIRS))).to("cpu")
    action = model.encode(tokens)
    assert table["codes"] == action.codes.tolist()
    # Other batches, other order of the sums.
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(torch.tensor(table["vector"]), action.vectors.flatten(1), **close)
    errors = model.prediction_error(tokens, action.codes), model.copy_error(tokens)
    torch.testing.assert_close(torch.tensor(table["prediction_error"]), errors[0], **close)
    torch.testing.assert_close(torch.tensor(table["copy_error"]), errors[1], **close)
    times = [(row, round(start / 10, 6)) for row, (_, start, _) in enumerate(ALL_PAIRS)]
    assert [(row, round(table["current_time_s"][row], 6)) for row, _ in times] == times
    assert len(set(table["model"])) == 1
    assert len(table["codes"][0]) == MODEL.code_seq_len


def test_videos_and_their_store_give_the_same_codes(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "videos.parquet"))
    label(config_for(made, tmp_path / "store.parquet", data_dir="", features=str(made / "store")))
    from_videos, from_store = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("videos", "store"))
    assert from_videos["codes"].to_pylist() == from_store["codes"].to_pylist()
    assert pairs_in(tmp_path / "videos.parquet") == pairs_in(tmp_path / "store.parquet")


@pytest.mark.parametrize("source", ["data_dir", "features"])
def test_every_nth_frame_of_the_first_videos(made, tmp_path, encoder, source):
    folder = made / ("videos" if source == "data_dir" else "store")
    config = config_for(made, tmp_path / "labels.parquet", data_dir="", every_n=3, max_videos=2)
    label(replace(config, **{source: str(folder)}))
    expected = [(video, start, end) for video, start, end in ALL_PAIRS[:9] if start % 3 == 0]
    assert pairs_in(tmp_path / "labels.parquet") == expected


def test_lapa_rows(made, tmp_path, encoder):
    (tmp_path / "texts.json").write_text(json.dumps({"v1.webm": "ouvrir la porte à gauche"}))
    label(
        config_for(made, tmp_path / "labels.jsonl", format="lapa", instructions=str(tmp_path / "texts.json"))
    )
    lines = (tmp_path / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == [f"{video}/{start}" for video, start, _ in ALL_PAIRS]
    label(config_for(made, tmp_path / "labels.parquet"))
    codes = pq.read_table(tmp_path / "labels.parquet")["codes"].to_pylist()
    assert rows[4] == {
        "id": "v1.webm/0",
        "image": "v1.webm",
        "frame": 0,
        "instruction": "ouvrir la porte à gauche",
        "vision": [],
        "delta": [str(code) for code in codes[4]],
        "fields": "[instruction],[vision],delta",
    }
    assert rows[0]["instruction"] == ""


KILLED = """
import os, signal
from pathlib import Path
from fake_encoder import FakeEncoder
from laq_model.labelling import token_source
from laq_model.labelling.label import label
from test_label import config_for
class Dying(FakeEncoder):
    def forward(self, frames, recorded=None):
        if self.num_pairs > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(frames, recorded)
token_source.build_encoder = lambda config, device: Dying()
label(config_for(Path({made!r}), Path({output!r})))
"""


def test_kill_9_then_the_same_command_labels_the_rest(made, tmp_path, encoder):
    output = tmp_path / "labels.parquet"
    process = start_python(KILLED.format(made=str(made), output=str(output)))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    num_done = sum(
        pq.read_metadata(part).num_rows for part in (tmp_path / "labels.parquet.parts").rglob("*.parquet")
    )
    assert 0 < num_done < len(ALL_PAIRS)
    label(config_for(made, output))
    assert encoder.num_pairs == len(ALL_PAIRS) - num_done
    label(config_for(made, tmp_path / "unbroken.parquet"))
    assert pq.read_table(output).equals(pq.read_table(tmp_path / "unbroken.parquet"))


def test_parts_of_other_work_are_never_mixed_in(made, tmp_path, encoder):
    """An interrupted job with another spacing keeps its parts, and this one makes its own."""
    output = tmp_path / "labels.parquet"
    process = start_python(KILLED.format(made=str(made), output=str(output)))
    process.communicate()
    label(config_for(made, output, every_n=2))
    assert pairs_in(output) == [pair for pair in ALL_PAIRS if pair[1] % 2 == 0]
    assert len(list((tmp_path / "labels.parquet.parts").glob("*/*.parquet"))) > 0


class TestRefusals:
    def test_neither_videos_nor_store(self, made, tmp_path):
        for sources in ({"data_dir": ""}, {"features": "store"}):
            with pytest.raises(ConfigError, match=r"give --data_dir DIR .* or --features DIR"):
                label(config_for(made, tmp_path / "labels.parquet", **sources))

    def test_other_weights_than_the_model_was_trained_with(self, made, tmp_path, encoder, monkeypatch):
        monkeypatch.setattr(
            trained_run, "weights_digests", lambda config: {"concerto": "0" * 16, "vggt": "1" * 16}
        )
        with pytest.raises(
            RunError, match=r"other tokens: weights\.concerto is '0{16}' there and '\w{16}' now; weights"
        ):
            label(config_for(made, tmp_path / "labels.parquet"))

    def test_a_store_of_another_encoder(self, made, tmp_path):
        run = shutil.copytree(made / "run", tmp_path / "run")
        record = json.loads((run / "run.json").read_text())
        record["data"]["tokens"]["encoder"]["pooling"] = "patch"
        (run / "run.json").write_text(json.dumps(record))
        config = config_for(made, tmp_path / "l", checkpoint=run, data_dir="", features=str(made / "store"))
        with pytest.raises(
            RunError, match=r"encoder\.pooling is 'voxel' there and 'patch' now\. Label with the"
        ):
            label(config)

    def test_an_output_that_cannot_be_written(self, made, tmp_path, encoder):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match=r"cannot write .*labels\.parquet .*choose another --output"):
            label(config_for(made, tmp_path / "file" / "labels.parquet"))

    def test_instructions_that_are_no_texts(self, made, tmp_path):
        (tmp_path / "texts.json").write_text("[1]")
        with pytest.raises(DatasetError, match=r"texts\.json must be a JSON object \{video: text\}"):
            label(config_for(made, tmp_path / "l", instructions=str(tmp_path / "texts.json")))

    def test_a_run_without_weights(self, made, tmp_path):
        run = open_run(made / "run")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.json").write_text(json.dumps(run.record))
        with pytest.raises(RunError, match=r"has no weights yet \(no model\.safetensors\)"):
            label(config_for(made, tmp_path / "l", checkpoint=tmp_path / "run"))


def test_a_broken_video_is_listed_and_the_others_are_labelled(made, tmp_path, encoder):
    folder = tmp_path / "videos"
    for number in range(4):
        write_video(folder / f"v{number}.webm", 8)
    (folder / "bad.webm").write_text("no video")
    config = config_for(made, tmp_path / "labels.parquet", data_dir=str(folder))
    with pytest.raises(DatasetError, match=r"1 of 5 videos cannot be used \(the first: bad\.webm"):
        label(config)
    result = label(replace(config, max_skipped_share=0.2))
    assert [video for video, _ in result.skipped] == ["bad.webm"]
    assert pairs_in(tmp_path / "labels.parquet") == [
        (f"v{v}.webm", start, start + 5) for v in range(4) for start in range(3)
    ]
    [listed] = (tmp_path / "labels.parquet.skipped.jsonl").read_text().splitlines()
    assert json.loads(listed)["video"] == "bad.webm"
