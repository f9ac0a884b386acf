"""The visualize job: frames of a video as clouds, pictures and cameras, without point network.

With --rerun, a whole clip as a recording; only its tokens, if asked for, need the point network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from .devices import chosen_device
from .encoder_config import EncoderConfig
from .errors import ConfigError, VideoReadError
from .geometry_source import GeometrySource
from .presets import Preset
from .report.camera_file import SeenFrame, write_camera_file
from .report.changed_cells import APPEARED, RECOLOURED, VANISHED, find_changed_cells, view_of_point
from .report.frame_sheet import unit_of, write_frame_sheet
from .report.html_page import write_page
from .report.output_file import make_output_folder
from .report.overlay_sheet import highlight, write_overlay_sheet
from .report.ply import write_ply
from .report.rerun_recording import require_rerun, write_recording
from .report.scene_view import scene_view
from .scene_observation import SceneObservation, build_geometry_source, observe_scenes
from .structures import DepthAndCameras, LatentActions
from .trained_run import open_trained_run
from .video.config import VideoDataConfig
from .video.decode import read_frames
from .video.frame_table import FrameTable
from .video.recorded_geometry import is_recorded, open_recorded
from .video.recorded_views import read_sensor
from .video.scan_workers import scan_one_video
from .video.square import square_frame


@dataclass(frozen=True)
class VisualizeConfig:
    """Draw one frame of a video as a point cloud, or two frames in one world, so that one sees what moved."""

    preset: Preset = "published"
    """Defaults of all flags: `published` weights, embedded `tiny` networks, or `lapa` sizes."""
    video: str = ""
    """The video file."""
    output: Path = Path("pointcloud")
    """Folder for the clouds (PLY), pictures (PNG), cameras (JSON) and a view to turn (view.html)."""
    frame: int = 0
    """Number of the frame, counted from 0."""
    second_frame: int | None = None
    """Number of a second frame: both are then seen as one scene, and an overlay shows what moved."""
    frame_size: int = 224
    """Side of the square frames, in pixels; a multiple of 14."""
    rerun: bool = False
    """Write a Rerun recording (VIDEO.rrd) of the whole clip too: pictures, depth, cameras and clouds in one
    world (extra [rerun]; open it with `rerun FILE`)."""
    rerun_frames: int = 8
    """Frames of the recording, evenly spread over the clip; all of them are seen as one scene."""
    checkpoint: Path | None = None
    """The run folder of a training run: the recording then shows its tokens over time."""
    device: str = ""
    """cpu, cuda, ...; empty: the best there is."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        VideoDataConfig(frame_size=self.frame_size)  # its rule, and its words for what breaks it
        if self.rerun_frames < 1:
            raise ConfigError(f"rerun_frames must be at least 1, got {self.rerun_frames}")
        if self.checkpoint is not None and not self.rerun:
            raise ConfigError("--checkpoint is for the tokens of a recording; give --rerun too")

    @property
    def frame_indices(self) -> list[int]:
        """The one or two frames."""
        return [self.frame] if self.second_frame is None else [self.frame, self.second_frame]


@dataclass(frozen=True)
class Visualization:
    """What was drawn.

    Attributes:
        files: in the order in which they were written.
    """

    scene: SceneObservation
    files: Sequence[Path]


def visualize(config: VisualizeConfig) -> Visualization:
    """Write the clouds, sheets and cameras of the frames; with two frames, an overlay too.

    Raises:
        LAQError: no such video or frame, missing weights, or an output that cannot be written.
    """
    if not config.video:
        raise ConfigError("give --video FILE, the video to look into")
    video = Path(config.video)
    if not video.is_file():
        raise VideoReadError(f"--video {video}: there is no such file")
    if config.rerun:
        require_rerun()
    make_output_folder(config.output)
    table = scan_one_video(video)
    pictures = read_frames(video, table, config.frame_indices)
    source = build_geometry_source(config.encoder, device=chosen_device(config.device))
    scene = observe_frames(config, source, pictures, _recorded(config, video, config.frame_indices))
    _report_scene(config, video, table, scene)

    frames = [_seen_frame(index, table) for index in config.frame_indices]
    files = []
    for view, frame in enumerate(frames):
        if frame in frames[:view]:  # the same frame twice: a test that nothing moves
            continue
        files += _write_frame(config, video.name, scene, view, frame)
    camera_file = config.output / f"{_stem(config.frame)}_camera.json"
    write_camera_file(camera_file, scene, frames, video=video.name, geometry=config.encoder.geometry)
    files.append(camera_file)
    if len(frames) == 2:
        files += _write_overlay(config, video.name, scene)
    files.append(_write_view(config, video.name, scene))
    if config.rerun:
        files.append(_write_rerun(config, source, video, table))
    print(f"wrote to {config.output}: {', '.join(file.name for file in files)}")
    return Visualization(scene, files)


def observe_frames(
    config: VisualizeConfig,
    source: GeometrySource,
    pictures: Sequence[UInt8[np.ndarray, "_height _width 3"]],
    recorded: DepthAndCameras | None,
) -> SceneObservation:
    """The pictures as views of one scene."""
    squares = np.stack([square_frame(picture, config.frame_size) for picture in pictures])
    frames = torch.from_numpy(squares).to(chosen_device(config.device)).permute(0, 3, 1, 2).float() / 255
    return observe_scenes(source, frames[None], recorded, config=config.encoder)


def _recorded(config: VisualizeConfig, video: Path, indices: Sequence[int]) -> DepthAndCameras | None:
    """What was recorded with ``DIR/videos/VIEW/NAME.webm``, where it was, and where the source wants it."""
    parts = video.resolve().parts
    if config.encoder.geometry == "vggt" or len(parts) < 4 or parts[-3] != "videos":
        return None
    data_dir = video.resolve().parents[2]
    if not is_recorded(data_dir):
        return None
    return read_sensor(open_recorded(data_dir), "/".join(parts[-3:]), indices, frame_size=config.frame_size)


def _report_scene(config: VisualizeConfig, video: Path, table: FrameTable, scene: SceneObservation) -> None:
    damage = f" ({table.damage})" if table.damage else ""
    print(f"{video.name}: {table.num_frames} frames of {table.width} x {table.height} pixels{damage}")
    view, num_pixels = view_of_point(scene), scene.is_kept[0, 0].numel()
    for number, index in enumerate(config.frame_indices):
        print(f"frame {index}: {int((view == number).sum())} points from {num_pixels} pixels")


def _seen_frame(index: int, table: FrameTable) -> SeenFrame:
    side = min(table.height, table.width)
    square = ((table.width - side) // 2, (table.height - side) // 2, side)
    return SeenFrame(index, table.time_s(index), square, f"{_stem(index)}.ply")


def _write_frame(
    config: VisualizeConfig, video: str, scene: SceneObservation, view: int, frame: SeenFrame
) -> list[Path]:
    is_own = view_of_point(scene) == view
    cloud = config.output / frame.cloud
    write_ply(
        cloud,
        coord=scene.cloud.coord_m.cpu()[is_own],
        normal=scene.cloud.normal.cpu()[is_own],
        color=scene.cloud.color.cpu()[is_own],
        comments=_comments(scene),
    )
    sheet = config.output / f"{_stem(frame.index)}.png"
    title = f"{video}, frame {frame.index} ({frame.time_s:.2f} s)"
    write_frame_sheet(sheet, scene, view=view, title=title, config=config.encoder)
    return [cloud, sheet]


def _write_overlay(config: VisualizeConfig, video: str, scene: SceneObservation) -> list[Path]:
    first, second = config.frame_indices
    changed = find_changed_cells(scene, config.encoder)
    print(
        f"cells that both frames see: {changed.count(VANISHED)} vanished, "
        f"{changed.count(APPEARED)} appeared, {changed.count(RECOLOURED)} recoloured"
    )
    # The current cloud in its own colours; of the second frame only what is new or looks otherwise.
    is_shown = (view_of_point(scene) == 0) | torch.isin(
        changed.kind_of_point, torch.tensor([APPEARED, RECOLOURED])
    )
    cloud = config.output / "overlay.ply"
    write_ply(
        cloud,
        coord=scene.cloud.coord_m.cpu()[is_shown],
        normal=scene.cloud.normal.cpu()[is_shown],
        color=highlight(scene.cloud.color, changed.kind_of_point, fade=False)[is_shown],
        comments=[
            *_comments(scene),
            f"frame {first} in its colours",
            f"vermilion: gone in frame {second}; blue: new in frame {second}; purple: recoloured",
        ],
    )
    sheet = config.output / "overlay.png"
    write_overlay_sheet(
        sheet,
        scene,
        changed,
        title=f"{video}: what moved from frame {first} to frame {second}",
        frame_names=(f"frame {first}", f"frame {second}"),
        config=config.encoder,
    )
    return [cloud, sheet]


def _write_view(config: VisualizeConfig, video: str, scene: SceneObservation) -> Path:
    frame_names = [f"frame {index}" for index in config.frame_indices]
    title = f"{video}, {' and '.join(frame_names)}"
    page = config.output / "view.html"
    section = scene_view(scene, frame_names, title=f"Points in {unit_of(scene)}", config=config.encoder)
    write_page(page, title=title, sections=[section])
    return page


def _write_rerun(config: VisualizeConfig, source: GeometrySource, video: Path, table: FrameTable) -> Path:
    """Frames over the whole clip, as views of one scene, and the tokens of a run where one is given."""
    count = min(config.rerun_frames, table.num_frames)
    indices = [int(index) for index in np.linspace(0, table.num_frames - 1, count).round()]
    pictures = read_frames(video, table, indices)
    scene = observe_frames(config, source, pictures, _recorded(config, video, indices))
    path = config.output / f"{video.stem}.rrd"
    frames = [_seen_frame(index, table) for index in indices]
    write_recording(path, scene, frames, tokens=_tokens(config, video))
    return path


def _tokens(config: VisualizeConfig, video: Path) -> LatentActions | None:
    if config.checkpoint is None:
        return None
    run = open_trained_run(config.checkpoint, device=chosen_device(config.device))
    return run.model.encode_video(video, encoder=run.video_encoder())


def _comments(scene: SceneObservation) -> list[str]:
    return [f"unit: {unit_of(scene)}", "z against gravity; origin at the median of the scene's points"]


def _stem(frame_index: int) -> str:
    return f"frame_{frame_index:06d}"
