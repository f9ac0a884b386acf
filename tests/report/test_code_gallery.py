"""The gallery shows the frames of the pairs that share a code, and says what their directions are worth."""

import numpy as np
import pytest
import torch
from test_code_groups import pair

from laq_model.errors import ConfigError
from laq_model.report.code_gallery import GallerySize, code_gallery
from laq_model.report.code_groups import CodedPairs
from laq_model.report.pair_frames import MAX_CLIP_FRAMES, PairFrames
from laq_model.report.pair_motion import Compass, PairMotion
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from written_videos import number_in, numbered_frame, write_video

SIZE = GallerySize(num_codes=2, clips_per_code=3, clip_px=32)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> PairFrames:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a", "b"):
        write_video(folder / f"{name}.webm", [numbered_frame(n, width=48, height=48) for n in range(12)])
    return PairFrames(build_index(VideoDataConfig(data_dir=str(folder), num_workers=1)))


NAMES = [pair(f"{video}.webm", start) for video in "ab" for start in (0, 5)]
PAIRS = CodedPairs(NAMES, torch.tensor([[1, 4], [1, 5], [2, 6], [2, 7]]), 8)


def motion(path_of) -> PairMotion:
    shift = torch.tensor([[0.1, 0, 0], [0.1, 0, 0], [0.1, 0, 0], [-0.1, 0, 0]])
    return PairMotion("the hand", shift, Compass(is_camera=True), path_of)


def test_a_clip_goes_from_the_current_to_the_future_frame(frames):
    numbers = [number_in(frame.numpy()) for frame in frames.clip(pair("a.webm", 2), side_px=48)]
    assert numbers == [2, 3, 4, 5, 6, 7]
    long = frames.clip(pair("a.webm", 0, length=11), side_px=48)
    assert len(long) == MAX_CLIP_FRAMES
    assert [number_in(long[place].numpy()) for place in (0, -1)] == [0, 11]


def test_only_pairs_whose_frames_are_there_are_shown(frames):
    assert frames.has(pair("a.webm", 6))
    assert not frames.has(pair("a.webm", 7))
    assert not frames.has(pair("c.webm", 0))


def test_groups_share_a_code_and_a_control_shares_none(frames):
    gallery = code_gallery(PAIRS, frames, motion(None), SIZE)
    assert [(group.name, group.is_control, len(group.clips)) for group in gallery.groups] == [
        ("Token 0 is 1", False, 2),
        ("Token 0 is 2", False, 2),
        ("Any pairs", True, 3),
    ]
    assert [clip.caption for clip in gallery.groups[0].clips] == ["a.webm, 0.0 s", "a.webm, 0.5 s"]


def test_directions_are_said_beside_what_any_pairs_agree_on(frames):
    same, opposed, _ = code_gallery(PAIRS, frames, motion(None), SIZE).groups
    assert "2 of 4 pairs, in 1 video. On average 10.0 cm to the right." in same.text
    assert "Agreement on the direction: 1.00; of any 2 pairs" in same.text
    assert "On average nowhere. Agreement on the direction: 0.00" in opposed.text
    # Of the six twos of these four, three agree wholly and three not at all.
    assert float(same.text.split(": ")[-1].rstrip(".")) == pytest.approx(0.5, abs=0.1)


def test_the_way_is_drawn_over_the_clip_of_its_pair(frames):
    def path_of(row: int, side_px: int) -> torch.Tensor | None:
        return None if row == 3 else torch.tensor([[0.0, float(row)], [float(side_px), 1.0]])

    gallery = code_gallery(PAIRS, frames, motion(path_of), SIZE)
    paths = [clip.motion_px for group in gallery.groups[:2] for clip in group.clips]
    np.testing.assert_array_equal([path[:, 1] for path in paths[:3]], [[0, 1], [1, 1], [2, 1]])
    assert paths[3] is None
    assert "The line is the way of the hand" in gallery.text


def test_without_motion_nothing_is_claimed_of_it(frames):
    gallery = code_gallery(PAIRS, frames, None, SIZE)
    assert gallery.groups[0].text == "2 of 4 pairs, in 1 video."
    assert "No motion is drawn" in gallery.text


def test_codes_that_never_come_back_are_said(frames):
    lonely = CodedPairs(NAMES, torch.arange(4)[:, None], 8)
    gallery = code_gallery(lonely, frames, None, SIZE)
    assert gallery.groups == []
    assert "No code occurs at two moments" in gallery.text


def test_an_impossible_size_is_refused():
    with pytest.raises(ConfigError, match="clips_per_code must be at least 1, got 0"):
        GallerySize(clips_per_code=0)
