"""From video files to tokens with the embedded networks, as a user would: the doors, then Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from laq_model.concerto_laq import ConcertoLAQ
from laq_model.concerto_wrapper import build_encoder
from laq_model.demo import DemoConfig, demo, summary
from laq_model.encoder_config import EncoderConfig
from laq_model.presets import with_preset

LAQ = Path(__file__).parents[1] / "laq"
NUM_FRAMES, OFFSET = 9, 5


def write_clip(path: Path, *, seed: int) -> None:
    """A box that slides over a shaded floor."""
    rng = np.random.default_rng(seed)
    color, start = rng.integers(60, 255, 3), rng.integers(10, 50)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 112, "yuv420p"
        for number in range(NUM_FRAMES):
            frame = np.tile(np.linspace(60, 200, 112).astype(np.uint8)[:, None, None], (1, 128, 3))
            left = start + 5 * number
            frame[50:80, left : left + 25] = color
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_clip(folder / f"clip{number}.webm", seed=number)
    (folder / "notes.webm").write_text("this is no video")
    return folder


def run_door(door: str, *flags: str) -> str:
    result = subprocess.run(
        [sys.executable, str(LAQ / door), *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run_folder(videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    out = run_door(
        "train_concerto_laq.py",
        *("--data_dir", str(videos), "--max_videos", "100", "--batch_size", "2", "--num_steps", "2"),
        *("--preset", "tiny", "--statistics_pairs", "4", "--eval_pairs", "2", "--output_dir", str(folder)),
    )
    assert "1 video skipped" in out
    assert "notes.webm" in out
    assert "trained 2 steps" in out
    return folder


@pytest.fixture(scope="module")
def labels(videos, run_folder, tmp_path_factory) -> list[dict]:
    output = tmp_path_factory.mktemp("labels") / "labels.parquet"
    run_door(
        "label_videos.py",
        *("--checkpoint", str(run_folder), "--data_dir", str(videos), "--output", str(output)),
        *("--max_skipped_share", "0.5"),
    )
    return pq.read_table(output).to_pylist()


def test_every_pair_gets_its_tokens_once(labels):
    found = sorted((row["video"], row["current_frame"], row["future_frame"]) for row in labels)
    wanted = [
        (f"clip{clip}.webm", frame, frame + OFFSET)
        for clip in range(4)
        for frame in range(NUM_FRAMES - OFFSET)
    ]
    assert found == wanted
    assert all(len(row["codes"]) == 4 and 0 <= min(row["codes"]) <= max(row["codes"]) < 256 for row in labels)


def test_tokens_in_python_are_those_of_the_label_file(videos, run_folder, labels):
    row = labels[0]
    with av.open(str(videos / row["video"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    # The middle 112 columns of 128: nothing is resized.
    pair = np.stack([frames[row["current_frame"]], frames[row["future_frame"]]])[:, :, 8:120]
    encoder = build_encoder(with_preset(EncoderConfig(), "tiny"))
    tokens = encoder(torch.from_numpy(pair).permute(0, 3, 1, 2)[None].float() / 255)
    action = ConcertoLAQ.from_pretrained(run_folder).encode(tokens)
    assert action.codes[0].tolist() == row["codes"]
    assert np.allclose(action.vectors[0].flatten().numpy(), row["vector"], atol=1e-5)


def test_the_same_frame_twice_is_no_change():
    frame = torch.rand(1, 1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    tokens = build_encoder(with_preset(EncoderConfig(), "tiny"))(frame.expand(-1, 2, -1, -1, -1))
    assert torch.equal(tokens.feat[:, 0], tokens.feat[:, 1])
    assert torch.equal(tokens.state[:, 0], tokens.state[:, 1])


def test_the_demo_runs_every_job(tmp_path, capsys):
    output = tmp_path / "demo"
    demo(DemoConfig(output=output, num_steps=2, batch_size=4, every_n=51))
    told = capsys.readouterr().out
    figures = json.loads((output / "run" / "evaluation" / "evaluation.json").read_text())
    assert f"copy ratio with hard codes (1 is copying)    {figures['copy_ratio_hard']:6.2f}" in told
    assert pq.read_table(output / "labels.parquet").num_rows == 48  # 24 episodes, two cameras, one pair each
    ConcertoLAQ.from_pretrained(output / "run").save_pretrained(tmp_path / "published")
    card = (tmp_path / "published" / "README.md").read_text()
    measured = (
        f"{figures['num_held_out_pairs']} held-out pairs of {figures['num_held_out_episodes']} episodes"
    )
    assert measured in card
    page = (output / "index.html").read_text()
    assert "What moved between two frames" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_the_summary_puts_controls_beside_the_figures():
    probe = "probe.linear.ee_displacement.r2_mean"
    told = summary(
        {
            f"view.fixed.{probe}": 0.51,
            f"view.moving.{probe}": 0.42,
            f"control.shuffled_pairs.view.fixed.{probe}": -0.03,
            "copy_ratio_hard": 0.6,
        }
    )
    (trained,) = (line for line in told.splitlines() if "the trained model" in line)
    (shuffled,) = (line for line in told.splitlines() if "shuffled" in line)
    assert trained.split()[-2:] == ["0.51", "0.42"]
    assert shuffled.split()[-2:] == ["-0.03", "–"]  # not measured is not zero
