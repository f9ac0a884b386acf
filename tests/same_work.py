"""A store and labels made by an engine, held to those that one process makes."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from laq_model.encoder_config import EncoderConfig
from laq_model.labelling.config import LabelConfig
from laq_model.labelling.label import label
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.training.loop import train
from laq_model.video.config import VideoDataConfig
from laq_model.work_units import EngineConfig
from tiny_training import tiny_config
from written_videos import write_video


def assert_same_work(folder: Path, work: EngineConfig) -> None:
    """With the embedded networks; the threads of a process could change how sums are rounded."""
    for number in range(3):
        write_video(folder / "videos" / f"v{number}.webm", 7)
    data = VideoDataConfig(data_dir=str(folder / "videos"), frame_size=112, held_out_fraction=0.3)
    encoder = EncoderConfig(vggt_model="embedded", concerto_model="embedded", max_points=512, max_tokens=16)
    here = PrecomputeConfig(
        output_dir=folder / "here", shard_pairs=2, device="cpu", data=data, encoder=encoder
    )
    precompute(here)
    precompute(replace(here, output_dir=folder / "there", work=work))
    assert _contents(folder / "there") == _contents(folder / "here")

    train(tiny_config(folder / "here", folder / "run", data=data, encoder=encoder, num_steps=2))
    labels = LabelConfig(
        checkpoint=folder / "run",
        features=str(folder / "here"),
        output=folder / "here.parquet",
        part_pairs=3,
        device="cpu",
    )
    _assert_same_labels(labels, folder, work)
    _assert_same_labels(replace(labels, features="", data_dir=data.data_dir), folder, work)


def _assert_same_labels(labels: LabelConfig, folder: Path, work: EngineConfig) -> None:
    label(labels)
    label(replace(labels, output=folder / "there.parquet", work=work))
    here, there = (pq.read_table(folder / f"{name}.parquet") for name in ("here", "there"))
    assert here.num_rows == 6  # three videos of seven frames, offset 5
    assert there.equals(here)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }
