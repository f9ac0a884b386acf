"""What ``concerto-laq demo`` leaves in its folder, from four episodes and few points, in seconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from laq_model.concerto_laq import ConcertoLAQConfig
from laq_model.encoder_config import EncoderConfig
from laq_model.labelling.label import LabelConfig, label
from laq_model.precompute import PrecomputeConfig, precompute
from laq_model.presets import with_preset
from laq_model.published_weights import embedded_file
from laq_model.training.config import LoggingConfig, OptimizationConfig, TrainConfig
from laq_model.training.loop import train
from laq_model.video.config import VideoDataConfig
from laq_model.video.decode import read_frames
from laq_model.video.scan import scan_video
from written_videos import write_video

EPISODES = ("reach-000", "reach-001", "drawer-close-000", "drawer-close-001")
FRAME_SIZE = 56


def make_small_demo(folder: Path) -> Path:
    """``features``, ``run`` and ``labels.parquet``, as in ``demo_output``."""
    pack = embedded_file("demo_pack")
    clips = folder / "clips"
    for name in EPISODES:
        for view in ("fixed", "moving"):
            (clips / "videos" / view).mkdir(parents=True, exist_ok=True)
            shutil.copy(pack / "videos" / view / f"{name}.webm", clips / "videos" / view)
    index = json.loads((pack / "index.json").read_text())
    index["episodes"] = [episode for episode in index["episodes"] if episode["name"] in EPISODES]
    (clips / "index.json").write_text(json.dumps(index))

    data = VideoDataConfig(data_dir=str(clips), frame_size=FRAME_SIZE, held_out_fraction=0.5)
    encoder = replace(with_preset(EncoderConfig(), "tiny"), align_views=False, max_points=256)
    store, run = folder / "features", folder / "run"
    precompute(PrecomputeConfig(output_dir=store, every_n=28, device="cpu", data=data, encoder=encoder))
    train(
        TrainConfig(
            features=str(store),
            output_dir=run,
            device="cpu",
            data=data,
            encoder=encoder,
            model=replace(with_preset(ConcertoLAQConfig(), "tiny"), dim=32, num_heads=2),
            optimization=OptimizationConfig(batch_size=4, num_steps=4, statistics_pairs=4),
            logging=LoggingConfig(eval_every=4, save_every=4),
        )
    )
    label(LabelConfig(checkpoint=run, features=str(store), output=folder / "labels.parquet", device="cpu"))
    return folder


def write_short_clip(path: Path, *, of: str = "reach-000", num_frames: int = 8) -> Path:
    """The first frames of an embedded clip, as a file of their own."""
    source = embedded_file("demo_pack") / "videos" / "fixed" / f"{of}.webm"
    return write_video(path, list(read_frames(source, scan_video(source), range(num_frames))))
