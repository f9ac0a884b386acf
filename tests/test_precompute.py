"""From a folder of videos to a feature store: every pair once, whatever breaks on the way."""

import json
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from fake_encoder import FakeEncoder, fake_config
from laq_model import precompute as precompute_module
from laq_model import span_decoding
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.feature_store import FeatureStore, verify_store
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.video.config import VideoDataConfig
from laq_model.video.index import build_index
from laq_model.webm_dataset import all_pairs
from tiny_training import start_python
from written_videos import write_video


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos of 9, 10, 11 and 12 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(folder / f"v{number}.webm", 9 + number)
    return folder


@pytest.fixture
def encoder(monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr(precompute_module, "build_encoder", lambda config, device: encoder)
    return encoder


def config_for(videos, output_dir, **changes) -> PrecomputeConfig:
    config = PrecomputeConfig(
        output_dir=output_dir,
        batch_size=3,
        shard_pairs=8,
        device="cpu",
        data=VideoDataConfig(data_dir=str(videos), frame_size=112, frame_offset=5, num_workers=2),
        encoder=fake_config(),
    )
    return replace(config, **changes)


def names_in(folder) -> list[tuple[str, int, int]]:
    return [(name.video, name.current_index, name.future_index) for name in FeatureStore(folder).names]


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


def test_every_pair_is_encoded_once_in_order(videos, tmp_path, encoder):
    result = precompute(config_for(videos, tmp_path / "store"))
    expected = [(f"v{v}.webm", start, start + 5) for v in range(4) for start in range(4 + v)]
    assert names_in(tmp_path / "store") == expected
    assert (result.num_pairs, result.num_missing, result.skipped) == (22, 0, ())
    assert encoder.num_pairs == 22
    assert verify_store(tmp_path / "store").problems == ()


def test_tokens_are_those_of_the_frames(videos, tmp_path, encoder):
    config = config_for(videos, tmp_path / "store")
    precompute(config)
    store = FeatureStore(tmp_path / "store")
    index = build_index(config.data)
    pairs = [pair for entry in index.videos for pair in all_pairs(index, entry, config.data)]
    frames = torch.stack([pair.frames for pair in pairs]).permute(0, 1, 4, 2, 3).float() / 255
    expected = encoder(frames)
    read = store.read(range(len(store)))
    assert torch.equal(read.state, expected.state)
    # Half precision keeps 11 bits.
    torch.testing.assert_close(read.feat.float(), expected.feat, rtol=2**-11, atol=0)


def test_every_n_counts_starts(videos, tmp_path, encoder):
    precompute(config_for(videos, tmp_path / "store", every_n=3))
    starts = [(video, start) for video, start, _ in names_in(tmp_path / "store")]
    assert starts == [(f"v{v}.webm", start) for v in range(4) for start in range(0, 4 + v, 3)]


def test_a_video_longer_than_a_shard_is_cut_without_a_seam(videos, tmp_path, encoder):
    """Shards of two pairs start decoding in the middle of a video."""
    precompute(config_for(videos, tmp_path / "small", shard_pairs=2))
    precompute(config_for(videos, tmp_path / "large", shard_pairs=100))
    assert names_in(tmp_path / "small") == names_in(tmp_path / "large")
    small, large = FeatureStore(tmp_path / "small"), FeatureStore(tmp_path / "large")
    assert torch.equal(small.read(range(22)).feat, large.read(range(22)).feat)


def test_a_second_run_encodes_nothing(videos, tmp_path, encoder):
    precompute(config_for(videos, tmp_path / "store"))
    before = contents(tmp_path / "store")
    encoder.num_pairs = 0
    precompute(config_for(videos, tmp_path / "store"))
    assert encoder.num_pairs == 0
    assert contents(tmp_path / "store") == before


def test_more_videos_are_added(videos, tmp_path, encoder):
    config = config_for(videos, tmp_path / "store")
    first = replace(config, data=replace(config.data, max_videos=2))
    precompute(first)
    precompute(config)
    assert sorted(names_in(tmp_path / "store")) == [
        (f"v{v}.webm", start, start + 5) for v in range(4) for start in range(4 + v)
    ]
    assert encoder.num_pairs == 22


def test_parts_make_the_store_of_one_run(videos, tmp_path, encoder):
    whole = config_for(videos, tmp_path / "whole")
    precompute(whole)
    last = [precompute(replace(whole, output_dir=tmp_path / "parts", part=f"{k}/3")) for k in (3, 1, 2)][-1]
    assert last.num_missing == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


class TestBrokenVideos:
    def test_one_that_hangs_costs_itself(self, videos, tmp_path, encoder, monkeypatch):
        release = threading.Event()

        def hanging(index, entry, *arguments, **options):
            pairs = all_pairs(index, entry, *arguments, **options)
            yield next(pairs)
            if entry.name == "v1.webm":
                release.wait()
            yield from pairs

        monkeypatch.setattr(span_decoding, "all_pairs", hanging)
        config = config_for(videos, tmp_path / "store", max_skipped_share=0.3)
        build_index(config.data)  # with all the patience that a busy machine needs
        result = precompute(replace(config, data=replace(config.data, decoder_patience_s=15.0)))
        release.set()
        assert result.skipped == (("v1.webm", "the decoder gave no frame for 15 s"),)
        assert {video for video, _, _ in names_in(tmp_path / "store")} == {"v0.webm", "v2.webm", "v3.webm"}

    def test_one_that_became_shorter_costs_itself(self, tmp_path, encoder):
        """The index is cached by size and time; a file that fakes both is found out when it is read."""
        for name in ("a", "b", "c"):
            write_video(tmp_path / "videos" / f"{name}.webm", 12)
        config = config_for(tmp_path / "videos", tmp_path / "store", max_skipped_share=0.5)
        build_index(config.data)
        file = tmp_path / "videos" / "b.webm"
        stat = file.stat()
        short = write_video(tmp_path / "short.webm", 8).read_bytes()
        file.write_bytes(short.ljust(stat.st_size, b"\0"))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        result = precompute(config)
        [(video, reason)] = result.skipped
        assert video == "b.webm"
        assert "frame 8 cannot be decoded, though the index knows it" in reason
        assert [video for video, _, _ in names_in(tmp_path / "store")] == ["a.webm"] * 7 + ["c.webm"] * 7

    def test_all_are_listed_with_their_reasons(self, videos, tmp_path, encoder):
        folder = tmp_path / "videos"
        for number in range(12):
            write_video(folder / f"v{number:02d}.webm", 7)
        (folder / "text.webm").write_text("no video")
        precompute(config_for(folder, tmp_path / "store"))
        lines = (tmp_path / "store" / "skipped.jsonl").read_text().splitlines()
        [listed] = [json.loads(line) for line in lines]
        assert listed["video"] == "text.webm"
        assert "cannot be opened as a video" in listed["reason"]

    def test_too_many_are_refused_before_any_work(self, videos, tmp_path, encoder):
        folder = tmp_path / "videos"
        write_video(folder / "good.webm", 9)
        (folder / "bad.webm").write_text("no video")
        with pytest.raises(
            DatasetError, match=r"1 of 2 videos cannot be used \(the first: bad\.webm: .*0\.1"
        ):
            precompute(config_for(folder, tmp_path / "store"))
        assert not (tmp_path / "store").exists()


class TestRefusals:
    def test_another_encoder(self, videos, tmp_path, encoder):
        config = config_for(videos, tmp_path / "store")
        precompute(config)
        changed = replace(config, encoder=replace(config.encoder, pooling="patch", cell_size_m=0.1))
        with pytest.raises(
            RunError,
            match=r"cell_size_m is 0\.05 there and 0\.1 now; encoder\.pooling is 'voxel' there and 'patch'",
        ):
            precompute(changed)

    def test_other_weights(self, videos, tmp_path, encoder, monkeypatch):
        config = config_for(videos, tmp_path / "store")
        precompute(config)
        monkeypatch.setattr(
            precompute_module, "weights_digests", lambda encoder: {"concerto": "0" * 16, "vggt": "1" * 16}
        )
        with pytest.raises(RunError, match=r"weights\.concerto is '\w{16}' there and '0{16}' now; "):
            precompute(config)

    def test_no_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="give --data_dir DIR"):
            precompute(PrecomputeConfig())

    @pytest.mark.parametrize("name", ["every_n", "batch_size", "shard_pairs"])
    def test_counts_below_one(self, name):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            PrecomputeConfig(**{name: 0})


KILLED = """
import os, signal
from pathlib import Path
from fake_encoder import FakeEncoder
from laq_model import precompute as job
from test_precompute import config_for
class Dying(FakeEncoder):
    def forward(self, frames, recorded=None):
        if self.num_pairs > 9:  # in the middle of the third shard
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(frames, recorded)
job.build_encoder = lambda config, device: Dying()
job.precompute(config_for(Path({videos!r}), Path({store!r})))
"""


def test_kill_9_then_the_same_command_finishes_the_store(videos, tmp_path, encoder):
    store = tmp_path / "store"
    process = start_python(KILLED.format(videos=str(videos), store=str(store)))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = sorted(path.name for path in (store / "shards").glob("??????"))
    assert done == ["000000", "000001"]
    precompute(config_for(videos, store))
    precompute(config_for(videos, tmp_path / "unbroken"))
    assert contents(store) == contents(tmp_path / "unbroken")
