"""Evaluating videos: encoded once, with what the pictures alone tell beside it."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from encoded_videos import store_and_run
from fake_encoder import FakeEncoder
from laq_model import trained_run
from laq_model.errors import RunError
from laq_model.evaluation import run_batches
from laq_model.evaluation.evaluate import EvaluateConfig, evaluate
from laq_model.evaluation.small_frames import SIDE_PX, small_frames
from laq_model.metrics import probes
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from recorded_folder import pair
from written_videos import write_video

DATA = VideoDataConfig(frame_size=112, frame_offset=5, num_workers=2, held_out_fraction=0.4)
NUM_FRAMES = [9 + number for number in range(8)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos beside known actions, their store, and a run trained from it."""
    root = tmp_path_factory.mktemp("made")
    rows = []
    for number, frames in enumerate(NUM_FRAMES):
        write_video(root / "videos" / f"v{number}.webm", frames)
        generator = torch.Generator().manual_seed(number)
        places = torch.randn(frames, 3, generator=generator).tolist()
        rows += [
            {"video": f"v{number}.webm", "frame": i, "position_m": place} for i, place in enumerate(places)
        ]
    pq.write_table(pa.Table.from_pylist(rows), root / "videos" / "actions.parquet")
    data = replace(DATA, data_dir=str(root / "videos"))
    store_and_run(root, data, num_steps=4)
    return root


@pytest.fixture
def encoder(monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr(run_batches, "build_encoder", lambda config, device: encoder)
    monkeypatch.setattr(probes, "MLP_STEPS", 10)
    return encoder


def config_for(made, output, **changes) -> EvaluateConfig:
    config = EvaluateConfig(
        checkpoint=made / "run", output_dir=str(output), probe_seeds=1, batch_size=5, device="cpu"
    )
    return replace(config, **changes)


def test_videos_and_their_store_give_the_same_figures(made, tmp_path, encoder):
    from_videos = evaluate(config_for(made, tmp_path / "videos"))
    assert encoder.num_pairs == sum(frames - 5 for frames in NUM_FRAMES)  # each once, for all controls
    from_store = evaluate(config_for(made, tmp_path / "store", features=str(made / "store")))
    assert from_videos.facts == from_store.facts
    assert from_videos.figures.keys() == from_store.figures.keys()
    for key, value in from_videos.figures.items():
        if "mlp" not in key:  # a float16 store differs in the last digits, which ten steps may enlarge
            assert from_store.figures[key] == pytest.approx(value, abs=0.02), key
    for control in ("first_frame", "pixel_difference"):
        assert f"control.{control}.probe.linear.ee_displacement.r2_mean" in from_videos.figures


def test_every_second_pair_of_the_first_videos(made, tmp_path, encoder):
    result = evaluate(config_for(made, tmp_path, every_n=2, max_videos=4, is_new_data=True))
    assert result.facts["num_pairs"] == sum(-(-(frames - 5) // 2) for frames in NUM_FRAMES[:4])


def test_another_encoder_than_the_run_s_is_refused(made, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(trained_run, "weights_digests", lambda config: {"concerto": "of another file"})
    with pytest.raises(RunError, match=r"this installation has other tokens: weights\.concerto is"):
        evaluate(config_for(made, tmp_path))


def test_small_frames_are_means_of_blocks(made):
    data = replace(DATA, data_dir=str(made / "videos"))
    index = build_index(data)
    # Of eight stripes the middle square shows six. Number 2 lights the last of these, 7 the last two.
    small = small_frames([pair("v3.webm", 2, 7)], index, data, every_n=1)
    current, future = small.view(2, 3, SIDE_PX, SIDE_PX)
    for shown, first_bright in ((current, SIDE_PX * 5 // 6 + 1), (future, SIDE_PX * 4 // 6 + 1)):
        assert (shown[:, :, first_bright:] > 0.7).all()
        assert (shown[:, :, : first_bright - 1] < 0.3).all()
    assert small_frames([pair("v3.webm", 0, 5), pair("gone.webm", 0, 5)], index, data, every_n=1) is None
