"""From a video file to its latent actions, with an encoder of a few lines."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fake_encoder import CHANNELS, FakeEncoder
from laq_model.concerto_laq import ConcertoLAQ, VideoEncoder
from laq_model.errors import VideoReadError
from laq_model.pair_encoding import FileEncoder
from laq_model.video.config import VideoDataConfig
from tiny_training import MODEL
from written_videos import write_video

DATA = VideoDataConfig(frame_size=56, frame_offset=3)


def build() -> ConcertoLAQ:
    torch.manual_seed(0)
    return ConcertoLAQ(replace(MODEL, feature_channels=CHANNELS)).eval()


def test_every_pair_is_encoded_once_in_time_order(tmp_path):
    write_video(tmp_path / "clip.webm", 10, rate=10)
    model, encoder = build(), FileEncoder(FakeEncoder(), DATA, batch_size=4)
    assert isinstance(encoder, VideoEncoder)
    actions = model.encode_video(tmp_path / "clip.webm", encoder=encoder)
    assert actions.codes.shape == (7, 2)
    assert_close(actions.current_time_s, torch.arange(7, dtype=torch.float64) / 10)
    assert_close(actions.future_time_s, torch.arange(3, 10, dtype=torch.float64) / 10)
    assert torch.equal(actions.vectors, model.quantizer.lookup(actions.codes))
    one_by_one = [
        model.encode(tokens).codes for _, tokens in replace(encoder, batch_size=1)(tmp_path / "clip.webm")
    ]
    assert torch.equal(actions.codes, torch.cat(one_by_one))


def test_pairs_may_be_spaced(tmp_path):
    write_video(tmp_path / "clip.webm", 10, rate=10)
    encoder = FileEncoder(FakeEncoder(), DATA, every_n=4)
    actions = build().encode_video(tmp_path / "clip.webm", encoder=encoder)
    assert_close(actions.current_time_s, torch.tensor([0.0, 0.4], dtype=torch.float64))


def test_a_video_without_a_pair_is_refused(tmp_path):
    write_video(tmp_path / "short.webm", 3)
    with pytest.raises(VideoReadError, match=r"short\.webm has 3 frames; a pair needs 4"):
        build().encode_video(tmp_path / "short.webm", encoder=FileEncoder(FakeEncoder(), DATA))
    with pytest.raises(ValueError, match="no pair of frames to encode"):
        build().encode_video("any.webm", encoder=lambda video: [])
