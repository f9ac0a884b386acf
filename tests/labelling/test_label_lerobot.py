"""A LeRobot dataset labelled: a copy with three more columns, everything else as it was."""

import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoded_videos import store_and_run
from fake_encoder import FakeEncoder
from laq_model.errors import ConfigError, DatasetError, RunError
from laq_model.labelling import lerobot_copy, token_source
from laq_model.labelling.config import LabelConfig
from laq_model.labelling.label import label
from laq_model.video.config import VideoDataConfig
from tiny_training import MODEL, start_python
from written_lerobot import LENGTHS, TOP, WRIST, edit_json, read_frames_table, write_lerobot

OFFSET = 3
DATA = VideoDataConfig(
    camera="top", frame_size=112, frame_offset=OFFSET, num_workers=2, held_out_fraction=0.3
)
NEW = ["latent_action", "latent_action_vector", "latent_action_valid"]
# Of each episode the last three frames have no frame three later.
IS_VALID = [frame + OFFSET < length for length in LENGTHS for frame in range(length)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset, the store of its top camera, and a run trained from that."""
    root = tmp_path_factory.mktemp("made")
    write_lerobot(root / "dataset")
    data = replace(DATA, data_dir=str(root / "dataset"))
    store_and_run(root, data, num_steps=6)
    return root


@pytest.fixture
def encoder(monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr(token_source, "build_encoder", lambda config, device: encoder)
    return encoder


def config_for(made, output, **changes) -> LabelConfig:
    settings = {
        "checkpoint": made / "run",
        "data_dir": str(made / "dataset"),
        "output": output,
        "format": "lerobot",
        "batch_size": 3,
        "part_pairs": 8,
        "device": "cpu",
    }
    return LabelConfig(**{**settings, **changes})


def test_each_frame_has_the_label_of_its_pair(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "copy"))
    table = read_frames_table(tmp_path / "copy")
    assert table["latent_action_valid"].to_pylist() == IS_VALID
    label(config_for(made, tmp_path / "labels.parquet", format="parquet"))
    rows = {
        (row["video"], row["current_frame"]): row
        for row in pq.read_table(tmp_path / "labels.parquet").to_pylist()
    }
    for frame in table.to_pylist():
        row = rows.get((f"videos/{TOP}/episode_{frame['episode_index']:06d}", frame["frame_index"]))
        assert frame["latent_action"] == (row["codes"] if row else [-1] * MODEL.code_seq_len)
        assert frame["latent_action_vector"] == (row["vector"] if row else [0.0] * 8)
    assert len(rows) == sum(IS_VALID)


def test_everything_else_is_as_it_was(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "copy"))
    source, copy = made / "dataset", tmp_path / "copy"
    new, old = read_frames_table(copy), read_frames_table(source)
    assert new.column_names == [*old.column_names, *NEW]
    assert new.select(old.column_names).equals(old)
    for path in source.glob("data/*/*"):
        groups = [pq.ParquetFile(p) for p in (path, copy / path.relative_to(source))]
        sizes = [[f.metadata.row_group(g).num_rows for g in range(f.num_row_groups)] for f in groups]
        assert sizes[0] == sizes[1]
    files = {
        str(p.relative_to(source))
        for p in source.rglob("*")
        if p.is_file() and not p.name.startswith(".concerto")
    }
    assert {str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file()} == files | {
        "meta/latent_action.json"
    }
    for name in files - {"meta/info.json", "meta/stats.json"}:
        if not name.startswith("data"):
            assert (copy / name).read_bytes() == (source / name).read_bytes()
    video = f"videos/{TOP}/chunk-000/file-000.mp4"
    assert (copy / video).samefile(source / video)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_info_and_types_say_what_the_columns_are(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "copy"))
    info, before = (
        json.loads((p / "meta/info.json").read_text()) for p in (tmp_path / "copy", made / "dataset")
    )
    assert {k: v for k, v in info.items() if k != "features"} == {
        k: v for k, v in before.items() if k != "features"
    }
    assert info["features"] == {
        **before["features"],
        "latent_action": {"dtype": "int64", "shape": [2], "names": ["token_0", "token_1"]},
        "latent_action_vector": {"dtype": "float32", "shape": [8], "names": None},
        "latent_action_valid": {"dtype": "bool", "shape": [1], "names": None},
    }
    schema = pq.read_schema(tmp_path / "copy/data/chunk-000/file-000.parquet")
    assert [schema.field(name).type for name in NEW] == [
        pa.list_(pa.int64(), 2),
        pa.list_(pa.float32(), 8),
        pa.bool_(),
    ]
    noted = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(noted) == schema.names
    assert noted["latent_action"]["length"] == 2
    provenance = json.loads((tmp_path / "copy/meta/latent_action.json").read_text())
    assert (provenance["camera"], provenance["frame_offset_frames"]) == (TOP, OFFSET)


def test_statistics_are_of_labelled_frames(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "copy"))
    stats, before = (
        json.loads((p / "meta/stats.json").read_text()) for p in (tmp_path / "copy", made / "dataset")
    )
    assert {name: stats[name] for name in before} == before
    table = read_frames_table(tmp_path / "copy")
    codes, vectors = (np.array(table[name].to_pylist())[IS_VALID] for name in NEW[:2])
    for name, values in ((NEW[0], codes), (NEW[1], vectors)):
        expected = {
            "min": values.min(0),
            "max": values.max(0),
            "mean": values.mean(0),
            "std": values.std(0),
            "q10": np.quantile(values, 0.1, axis=0),
            "q99": np.quantile(values, 0.99, axis=0),
            "count": [sum(IS_VALID)],
        }
        for kind, value in expected.items():
            np.testing.assert_allclose(stats[name][kind], value, rtol=1e-6, atol=1e-7, err_msg=kind)
    assert stats[NEW[2]]["mean"] == pytest.approx([26 / 38])
    assert stats[NEW[2]]["count"] == [38]


def test_the_command_says_which_frames_have_no_label(made, tmp_path, encoder, capsys):
    result = label(config_for(made, tmp_path / "copy"))
    assert result.num_pairs == 26
    told = (
        "26 of 38 frames are labelled. 12 at the ends of episodes have no frame 3 later: their "
        "latent_action_valid is false"
    )
    assert told in capsys.readouterr().out
    result = label(config_for(made, tmp_path / "few", every_n=2, max_videos=2))
    # Episodes of 9 and 12 frames: starts 0, 2, 4 and 0 to 8; 3 + 5 of their 15 pairs, and 11 of the others.
    assert result.remark.startswith("8 of 38 frames are labelled. 12 at the ends of episodes have no frame 3")
    assert "later, 18 others were left out (every_n, max_videos, skipped videos): " in result.remark


def test_a_store_gives_the_labels_that_it_holds(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "copy", features=str(made / "store")))
    plain = {"data_dir": "", "features": str(made / "store"), "format": "parquet"}
    label(config_for(made, tmp_path / "labels.parquet", **plain))
    codes = np.array(read_frames_table(tmp_path / "copy")["latent_action"].to_pylist())
    assert codes[IS_VALID].tolist() == pq.read_table(tmp_path / "labels.parquet")["codes"].to_pylist()
    assert (codes[~np.array(IS_VALID)] == -1).all()
    assert encoder.num_pairs == 0


def test_a_labelled_copy_can_be_labelled_again(made, tmp_path, encoder):
    label(config_for(made, tmp_path / "first"))
    label(config_for(made, tmp_path / "second", data_dir=str(tmp_path / "first")))
    assert read_frames_table(tmp_path / "second").equals(read_frames_table(tmp_path / "first"))


def test_an_episode_without_video_keeps_its_frames(made, tmp_path, encoder):
    folder = shutil.copytree(made / "dataset", tmp_path / "dataset")
    (folder / f"videos/{TOP}/chunk-000/file-001.mp4").unlink()
    result = label(config_for(made, tmp_path / "copy", data_dir=str(folder), max_skipped_share=0.3))
    assert [video for video, _ in result.skipped] == [f"videos/{TOP}/episode_000003"]
    valid = read_frames_table(tmp_path / "copy")["latent_action_valid"].to_pylist()
    assert valid == [*IS_VALID[:28], *[False] * 10]


def test_a_disk_without_links_gets_copies(made, tmp_path, encoder, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    label(config_for(made, tmp_path / "copy"))
    video = f"videos/{WRIST}/chunk-000/file-000.mp4"
    assert not (tmp_path / "copy" / video).samefile(made / "dataset" / video)
    assert (tmp_path / "copy" / video).read_bytes() == (made / "dataset" / video).read_bytes()


def test_links_to_a_hub_cache_become_files(made, tmp_path, encoder):
    folder = shutil.copytree(made / "dataset", tmp_path / "snapshot")
    video = f"videos/{TOP}/chunk-000/file-000.mp4"
    (folder / video).rename(tmp_path / "blob")
    (folder / video).symlink_to(os.path.relpath(tmp_path / "blob", (folder / video).parent))
    label(config_for(made, tmp_path / "deeper/down/copy", data_dir=str(folder)))
    copied = tmp_path / "deeper/down/copy" / video
    assert not copied.is_symlink()
    assert copied.samefile(tmp_path / "blob")


KILLED = """
import os, signal
from pathlib import Path
from fake_encoder import FakeEncoder
from laq_model.labelling import lerobot_copy, token_source
from laq_model.labelling.label import label
from test_label_lerobot import config_for
token_source.build_encoder = lambda config, device: FakeEncoder()
lerobot_copy._write_meta = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
label(config_for(Path({made!r}), Path({output!r})))
"""


def test_kill_9_while_copying_leaves_no_dataset_and_costs_no_label(made, tmp_path, encoder):
    output = tmp_path / "copy"
    process = start_python(KILLED.format(made=str(made), output=str(output)))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    label(config_for(made, output))
    assert encoder.num_pairs == 0
    assert read_frames_table(output)["latent_action_valid"].to_pylist() == IS_VALID
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


class TestRefusals:
    def test_a_file_as_output(self, made):
        with pytest.raises(
            ConfigError, match=r"writes a copy of the dataset: give --output DIR, not labels\.p"
        ):
            label(config_for(made, LabelConfig().output))

    def test_no_dataset(self, made, tmp_path):
        with pytest.raises(ConfigError, match="copies a dataset: give --data_dir DIR, a LeRobot dataset"):
            label(config_for(made, tmp_path / "copy", data_dir="", features=str(made / "store")))

    def test_a_plain_folder(self, made, tmp_path):
        with pytest.raises(DatasetError, match=r"is no LeRobot dataset \(no meta/info\.json"):
            label(config_for(made, tmp_path / "copy", data_dir=str(tmp_path)))

    def test_an_output_that_is_there(self, made, tmp_path, encoder):
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "thesis.tex").write_text("the only one")
        with pytest.raises(RunError, match="exists already; remove it, or give the copy another --output"):
            label(config_for(made, tmp_path / "copy"))
        assert (tmp_path / "copy" / "thesis.tex").read_text() == "the only one"
        assert encoder.num_pairs == 0

    @pytest.mark.parametrize("inside", [".", "labelled", ".."])
    def test_an_output_inside_the_dataset_or_around_it(self, made, inside):
        with pytest.raises(ConfigError, match="must lie outside of the dataset"):
            label(config_for(made, made / "dataset" / inside))

    def test_a_camera_that_is_not_there(self, made, tmp_path):
        with pytest.raises(DatasetError, match=r"no camera 'front'; it has .*top, .*wrist \(--camera\)"):
            label(config_for(made, tmp_path / "copy", camera="front"))

    def test_labels_of_another_camera(self, made, tmp_path):
        with pytest.raises(
            DatasetError, match=rf"none of the labels is of the camera {WRIST}; choose another"
        ):
            label(config_for(made, tmp_path / "copy", camera="wrist", features=str(made / "store")))
        assert not (tmp_path / "copy").exists()

    def test_frames_that_meta_does_not_know(self, made, tmp_path, encoder):
        folder = shutil.copytree(made / "dataset", tmp_path / "dataset")
        path = folder / "meta/episodes/chunk-000/file-000.parquet"
        rows = pq.read_table(path).to_pylist()
        rows[1]["length"] = 11
        pq.write_table(pa.Table.from_pylist(rows), path)
        with pytest.raises(
            DatasetError, match=r"has frame 11 of episode 1, which has 11 frames by meta/episodes"
        ):
            label(config_for(made, tmp_path / "copy", data_dir=str(folder)))
        assert not (tmp_path / "copy").exists()

    def test_frames_without_numbers(self, made, tmp_path, encoder):
        folder = shutil.copytree(made / "dataset", tmp_path / "dataset")
        path = folder / "data/chunk-000/file-001.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["frame_index"]), path)
        with pytest.raises(DatasetError, match=r"file-001\.parquet lacks the column frame_index"):
            label(config_for(made, tmp_path / "copy", data_dir=str(folder)))

    def test_a_damaged_file_of_frames(self, made, tmp_path, encoder):
        folder = shutil.copytree(made / "dataset", tmp_path / "dataset")
        (folder / "data/chunk-000/file-001.parquet").write_bytes(b"PAR1 no more")
        with pytest.raises(DatasetError, match=r"data/chunk-000/file-001\.parquet is damaged"):
            label(config_for(made, tmp_path / "copy", data_dir=str(folder)))

    def test_another_version(self, made, tmp_path):
        folder = shutil.copytree(made / "dataset", tmp_path / "dataset")
        edit_json(folder / "meta/info.json", codebase_version="v2.1")
        with pytest.raises(DatasetError, match=r"version v2\.1; version v3\.0 is read"):
            label(config_for(made, tmp_path / "copy", data_dir=str(folder)))

    def test_a_full_disk(self, made, tmp_path, encoder, monkeypatch):
        def fill(*arguments):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(lerobot_copy, "_write_json", fill)
        with pytest.raises(RunError, match=r"copy \(No space left on device\); the labelled parts are kept"):
            label(config_for(made, tmp_path / "copy"))
        assert [path.name for path in tmp_path.iterdir()] == ["copy.parts"]


def test_a_missing_column_is_found_before_the_work(tmp_path):
    dataset = write_lerobot(tmp_path / "dataset")
    path = dataset / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["frame_index"]), path)
    config = LabelConfig(
        checkpoint=tmp_path / "no_run",  # would be refused, if it were opened first
        data_dir=str(dataset),
        format="lerobot",
        output=tmp_path / "copy",
    )
    with pytest.raises(DatasetError, match=r"file-001\.parquet lacks the column frame_index"):
        label(config)
