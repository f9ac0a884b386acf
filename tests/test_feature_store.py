"""The feature store: what comes out is what went in, and nothing half or foreign is ever read."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from laq_model.cli import main
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.feature_store import (
    FeatureStore,
    Part,
    Span,
    TokenShape,
    extend_plan,
    open_store_writer,
    verify_store,
)
from synthetic_store import SETTINGS, action_tokens, pair_names, tokens_of, write_store

SHAPE = TokenShape(num_tokens=12, channels=20)


def writer(folder, videos=(("a.webm", 4),), *, settings=SETTINGS, shape=SHAPE, part="", shard_pairs=4):
    return open_store_writer(
        folder,
        settings=settings,
        shape=shape,
        videos=videos,
        shard_pairs=shard_pairs,
        part=Part.parse(part),
    )


def test_tokens_come_back_as_they_were():
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(write_store(Path(folder), num_videos=5, pairs_each=7, shard_pairs=16))
        assert len(store) == 35
        for pairs in ([0], [34, 3, 17, 3], range(35)):
            tokens = store.read(list(pairs))
            for row, pair in enumerate(pairs):
                name = store.names[pair]
                expected = tokens_of(name.video, 7)
                place = name.current_index
                torch.testing.assert_close(tokens.feat[row].float(), expected.feat[place], rtol=0, atol=0)
                assert torch.equal(tokens.state[row], expected.state[place])
                torch.testing.assert_close(tokens.position[row], expected.position[place], rtol=0, atol=0)
                assert torch.equal(tokens.is_valid[row], expected.is_valid[place])


def test_one_token_a_frame(tmp_path):
    """Records of 14 bytes: nothing is aligned."""
    store = FeatureStore(write_store(tmp_path, num_videos=2, pairs_each=3, num_tokens=1))
    for pairs in ([0], [4, 1]):
        expected = [tokens_of(store.names[pair].video, 3, num_tokens=1).position[pair % 3] for pair in pairs]
        assert torch.equal(store.read(pairs).position, torch.stack(expected))


def test_names_are_those_that_were_written(tmp_path):
    store = FeatureStore(write_store(tmp_path, num_videos=3, pairs_each=2, shard_pairs=4))
    expected = [name for video in ("v00.webm", "v01.webm", "v02.webm") for name in pair_names(video, 2)]
    assert list(store.names) == expected
    assert store.names[-1] == expected[-1]
    assert store.names[1:3] == expected[1:3]


def test_padding_beyond_the_store_is_left_out(tmp_path):
    """An encoder may pad more than the store keeps; places must not be lost that way."""
    tokens = action_tokens(4, num_tokens=13)  # the thirteenth is padding
    with writer(tmp_path) as store, store.shard(0) as shard:
        shard.add(pair_names("a.webm", 4), tokens)
    assert torch.equal(FeatureStore(tmp_path).read([2]).feat[0].float(), tokens.feat[2, :, :12])
    more = action_tokens(4, num_tokens=14)  # the thirteenth is a place
    with (
        pytest.raises(ValueError, match=r"holds 12 places of 20 channels, got \[14, 20\]"),
        writer(tmp_path / "other") as store,
        store.shard(0) as shard,
    ):
        shard.add(pair_names("a.webm", 4), more)


def test_arrays_are_ordinary_npy_files(tmp_path):
    write_store(tmp_path, num_videos=1, pairs_each=3)
    places = np.load(tmp_path / "shards" / "000000" / "places.npy")
    expected = tokens_of("v00.webm", 3)
    features = np.load(tmp_path / "shards" / "000000" / "feat.npy")
    assert features.dtype == np.float16
    assert features.tolist() == expected.feat.tolist()
    assert places["position"].tolist() == expected.position.tolist()
    padded = np.where(expected.is_valid[:, None].numpy(), expected.state.numpy(), -1)
    assert places["state"].tolist() == padded.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_features_that_float16_cannot_hold_are_refused(tmp_path, value):
    tokens = action_tokens(4)
    where = (tokens.state == 2).nonzero()[0]
    tokens.feat[tuple(where)] = value
    with (
        pytest.raises(DatasetError, match=r"features of a\.webm that are not finite in float16"),
        writer(tmp_path) as store,
        store.shard(0) as shard,
    ):
        shard.add(pair_names("a.webm", 4), tokens)
    assert not (tmp_path / "shards" / "000000").exists()


class TestPlan:
    def test_whole_videos_fill_a_shard(self):
        plan = extend_plan([], [("a", 3), ("b", 4), ("c", 2), ("d", 8)], shard_pairs=8)
        assert plan == [[Span("a", 0, 3), Span("b", 0, 4)], [Span("c", 0, 2)], [Span("d", 0, 8)]]

    def test_a_long_video_is_cut(self):
        plan = extend_plan([], [("a", 2), ("b", 20), ("c", 1)], shard_pairs=8)
        assert plan == [
            [Span("a", 0, 2)],
            [Span("b", 0, 8)],
            [Span("b", 8, 8)],
            [Span("b", 16, 4), Span("c", 0, 1)],
        ]

    def test_new_videos_come_last_and_move_nothing(self):
        plan = extend_plan([], [("b", 3), ("d", 3)], shard_pairs=8)
        longer = extend_plan(plan, [("a", 3), ("b", 3), ("c", 3), ("d", 3)], shard_pairs=8)
        assert longer == [*plan, [Span("a", 0, 3), Span("c", 0, 3)]]


class TestWriting:
    def test_only_what_is_missing_is_written(self, tmp_path):
        write_store(tmp_path, num_videos=4)
        shutil.rmtree(tmp_path / "shards" / "000001")
        with writer(tmp_path, [(f"v{i:02d}.webm", 8) for i in range(4)], shard_pairs=16) as store:
            assert [number for number, _ in store.missing()] == [1]

    def test_a_truncated_shard_is_written_again(self, tmp_path):
        write_store(tmp_path, num_videos=4)
        os.truncate(tmp_path / "shards" / "000000" / "feat.npy", 300)
        with writer(tmp_path, [(f"v{i:02d}.webm", 8) for i in range(4)], shard_pairs=16) as store:
            assert [number for number, _ in store.missing()] == [0]

    def test_parts_share_the_work(self, tmp_path):
        videos = [(f"v{i}.webm", 4) for i in range(7)]
        done = []
        for part in ("1/3", "2/3", "3/3"):
            with writer(tmp_path, videos, part=part) as store:
                done.append([number for number, _ in store.missing()])
        assert done == [[0, 3, 6], [1, 4], [2, 5]]

    @pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
    def test_a_part_that_cannot_be_is_refused(self, part):
        with pytest.raises(ConfigError, match=r"part must be k/n with k from 1 to n, such as 3/8"):
            Part.parse(part)

    def test_other_settings_are_refused_and_named(self, tmp_path):
        write_store(tmp_path, settings={"encoder": {"pooling": "voxel", "max_tokens": 12}})
        changed = {**SETTINGS, "encoder": {"pooling": "patch", "max_tokens": 12}}
        with (
            pytest.raises(
                RunError, match=r"other settings: encoder\.pooling is 'voxel' there and 'patch' now"
            ),
            writer(tmp_path, settings=changed),
        ):
            pass

    def test_two_writers_are_refused(self, tmp_path):
        with (
            writer(tmp_path),
            pytest.raises(RunError, match=r"another process is writing into .* \(process \d+ on "),
            writer(tmp_path),
        ):
            pass

    def test_a_whole_run_and_a_part_exclude_each_other_but_parts_do_not(self, tmp_path):
        with writer(tmp_path, part="1/2"), writer(tmp_path, part="2/2"):
            with pytest.raises(RunError, match="another process"), writer(tmp_path):
                pass
            with pytest.raises(RunError, match="another process"), writer(tmp_path, part="1/2"):
                pass

    def test_an_error_leaves_no_shard_and_no_litter(self, tmp_path):
        wrong = action_tokens(4, num_tokens=11)
        with pytest.raises(ValueError, match="broadcast"), writer(tmp_path) as store, store.shard(0) as shard:
            shard.add(pair_names("a.webm", 4), wrong)
        assert list((tmp_path / "shards").iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with (
            pytest.raises(RunError, match=r"cannot write the feature store .*choose another --output_dir"),
            writer(tmp_path / "file" / "store"),
        ):
            pass


# Writes 16 shards as fast as it can, and says when the third is there.
KILLED_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from synthetic_store import *
shape = TokenShape(num_tokens=12, channels=20)
videos = [(f"v{{i:02d}}.webm", 4) for i in range(16)]
with open_store_writer({folder!r}, settings=SETTINGS, shape=shape, videos=videos, shard_pairs=4) as writer:
    for number, spans in writer.missing():
        with writer.shard(number) as shard:
            for span in spans:
                shard.add(pair_names(span.video, 4), tokens_of(span.video, 4))
            if number == 3:
                print("ready", flush=True)
                import time; time.sleep(60)
"""


def test_kill_9_loses_one_shard_and_the_lock(tmp_path):
    script = KILLED_WRITER.format(path=sys.path, folder=str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    with pytest.raises(DatasetError, match=r"000003 is not there yet; run precompute again"):
        FeatureStore(tmp_path / "killed")
    assert (tmp_path / "killed" / "shards" / "000003.tmp").exists()
    finished = write_store(tmp_path / "killed", num_videos=16, pairs_each=4, shard_pairs=4)
    unbroken = write_store(tmp_path / "unbroken", num_videos=16, pairs_each=4, shard_pairs=4)
    assert contents(finished) == contents(unbroken)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


FULL_DISK = """
import resource, sys
sys.path[:0] = {path!r}
from synthetic_store import *
from laq_model.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    write_store(Path({folder!r}), num_videos=4, pairs_each=8, shard_pairs=8)
except RunError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_shards_before(tmp_path):
    """A limit on the size of files stands for the disk: writing fails in the middle of an array."""
    write_store(tmp_path, num_videos=2, pairs_each=4, shard_pairs=4)
    before = contents(tmp_path)
    script = FULL_DISK.format(path=sys.path, folder=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the shards before it are whole. Free space and run again" in run.stdout
    assert "File too large" in run.stdout
    after = contents(tmp_path)
    assert {name: after[name] for name in before if name != "plan.json"} == {
        name: content for name, content in before.items() if name != "plan.json"
    }


def test_a_store_on_a_read_only_disk_is_read():
    """In a process that may not write anything there, not even as the superuser."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store")
        for path in (Path(folder), store, *store.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                assert not os.access(store, os.W_OK)
                assert FeatureStore(store).read([0, 5]).feat.shape == (2, 2, 12, 20)
                assert not verify_store(store).problems
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for path in (Path(folder), *(path for path in store.rglob("*") if path.is_dir()), store):
            path.chmod(0o755)


class TestReading:
    def test_a_folder_that_is_no_store(self, tmp_path):
        with pytest.raises(DatasetError, match=r"is no feature store \(it has no store\.json\)"):
            FeatureStore(tmp_path)

    def test_another_format(self, tmp_path):
        write_store(tmp_path)
        header = tmp_path / "store.json"
        header.write_text(json.dumps({**json.loads(header.read_text()), "format": 1}))
        with pytest.raises(DatasetError, match="has store format 1, this version reads 2"):
            FeatureStore(tmp_path)

    @pytest.mark.parametrize("name", ["feat.npy", "places.npy"])
    def test_a_truncated_array_is_named(self, tmp_path, name):
        write_store(tmp_path)
        path = tmp_path / "shards" / "000001" / name
        size = path.stat().st_size
        os.truncate(path, size - 1)
        with pytest.raises(
            DatasetError, match=rf"000001 is damaged \({name} has {size - 1} bytes instead of {size}\)"
        ):
            FeatureStore(tmp_path)

    def test_a_shard_of_another_store_is_refused(self, tmp_path):
        write_store(tmp_path / "store")
        write_store(tmp_path / "other", settings={"frame_size": 224})
        shutil.rmtree(tmp_path / "store" / "shards" / "000001")
        shutil.copytree(tmp_path / "other" / "shards" / "000001", tmp_path / "store" / "shards" / "000001")
        with pytest.raises(DatasetError, match=r"000001 is damaged \(it is of another store\)"):
            FeatureStore(tmp_path / "store")

    def test_a_shard_cut_while_it_is_in_use(self, tmp_path):
        store = FeatureStore(write_store(tmp_path))
        store.read([0])
        os.truncate(tmp_path / "shards" / "000000" / "feat.npy", 300)
        with pytest.raises(DatasetError, match=r"feat\.npy ends too early; run `concerto-laq store verify`"):
            store.read(list(range(16)))

    def test_more_shards_than_files_may_be_open(self, tmp_path, monkeypatch):
        monkeypatch.setattr("laq_model.feature_store.store.MAX_OPEN_SHARDS", 2)
        store = FeatureStore(write_store(tmp_path, num_videos=6, pairs_each=4, shard_pairs=4))
        order = [23, 0, 9, 14, 5, 18, 23]
        expected = [tokens_of(store.names[pair].video, 4).feat[pair % 4] for pair in order]
        torch.testing.assert_close(store.read(order).feat.float(), torch.stack(expected), rtol=0, atol=0)

    def test_skipped_videos_are_remembered(self, tmp_path):
        with writer(tmp_path, [("a.webm", 2), ("b.webm", 2)]) as store, store.shard(0) as shard:
            shard.add(pair_names("a.webm", 2), action_tokens(2))
            shard.skip("b.webm", "b.webm: cannot be opened")
        assert FeatureStore(tmp_path).skipped == (("b.webm", "b.webm: cannot be opened"),)


class TestVerify:
    def test_a_whole_store(self, tmp_path, capsys):
        write_store(tmp_path)
        main(["store", "verify", str(tmp_path)])
        assert "all 3 shards are whole, 48 pairs" in capsys.readouterr().out

    def test_every_kind_of_fault_is_named(self, tmp_path, capsys):
        write_store(tmp_path / "store", num_videos=12)
        write_store(tmp_path / "other", num_videos=12, settings={"frame_size": 224})
        shards = tmp_path / "store" / "shards"
        shutil.rmtree(shards / "000000")
        os.truncate(shards / "000001" / "feat.npy", 1000)
        (shards / "000002" / "pairs.parquet").unlink()
        shutil.rmtree(shards / "000003")
        shutil.copytree(tmp_path / "other" / "shards" / "000003", shards / "000003")
        shutil.copytree(shards / "000005", shards / "000099")
        with (shards / "000004" / "feat.npy").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        (shards / "000007.tmp").mkdir()
        problems = dict(verify_store(tmp_path / "store").problems)
        assert problems.pop("000001").startswith("feat.npy has 1000 bytes instead of ")
        assert problems.pop("000002").startswith("pairs.parquet is missing or damaged (")
        assert problems == {
            "000000": "missing",
            "000003": "foreign: it is of another store",
            "000004": "feat.npy has other content than was written",
            "000007.tmp": "left by an interrupted run; precompute removes it",
            "000099": "foreign: not in the plan",
        }
        assert "000004" not in dict(verify_store(tmp_path / "store", quick=True).problems)
        with pytest.raises(SystemExit) as status:
            main(["store", "verify", str(tmp_path / "store")])
        assert status.value.code == 1
        assert "7 faults in the 6 shards" in capsys.readouterr().err

    def test_a_shard_in_the_place_of_another_is_foreign(self, tmp_path):
        write_store(tmp_path)
        shards = tmp_path / "shards"
        shutil.rmtree(shards / "000000")
        shutil.copytree(shards / "000001", shards / "000000")
        assert verify_store(tmp_path).problems == (
            ("000000", "foreign: it holds other videos than the plan says"),
        )


def test_a_store_that_is_not_used_any_more_leaves_no_file_open(tmp_path):
    store = FeatureStore(write_store(tmp_path / "store"))
    store.read([0, 5])
    readers = list(store._open.values())
    del store
    gc.collect()
    assert readers
    for reader in readers:
        with pytest.raises(ValueError, match="closed file"):
            reader.read(0, features=np.empty((2, 12, 20), np.float16), places=np.empty(1, np.uint8))
