"""A clip as a Rerun recording (.rrd): pictures, depth, cameras and clouds in one world, tokens over time.

Only this file imports rerun-sdk (extra [rerun]). A recording has two timelines: ``time``, seconds after the
video's first frame, and ``frame``, its number.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..geometry.cameras import camera_centre
from ..scene_observation import SceneObservation
from ..structures import LatentActions
from .camera_file import SeenFrame
from .changed_cells import view_of_point

WORLD, CAMERA, CLOUD, TOKENS = "world", "world/camera", "world/cloud", "tokens"
JPEG_QUALITY = 90
POINT_RADIUS_M = 0.006


def require_rerun() -> Any:
    """The package, or the line that says how to get it.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ConfigError(
            f"--rerun needs the package rerun-sdk ({error}); pip install 'concerto-laq[rerun]'"
        ) from error


def write_recording(
    path: Path,
    scene: SceneObservation,
    frames: Sequence[SeenFrame],
    *,
    tokens: LatentActions | None = None,
) -> None:
    """Write one scene, whose views are frames of a video in one world.

    Args:
        path: the ``.rrd`` file.
        frames: one for each view of the scene.
        tokens: of the video's pairs; each stands at the time of its current frame.

    Raises:
        ConfigError: rerun-sdk is not installed.
        RunError: the file cannot be written.
    """
    rr = require_rerun()
    recording = rr.RecordingStream("concerto-laq", recording_id=path.stem)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        recording.save(unfinished, default_blueprint=_layout(rr, has_tokens=tokens is not None))
        recording.log(WORLD, rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for view, frame in enumerate(frames):
            recording.set_time("time", duration=frame.time_s)
            recording.set_time("frame", sequence=frame.index)
            _log_view(rr, recording, scene, view)
        if tokens is not None:
            _log_tokens(rr, recording, tokens)
        recording.flush()
        recording.disconnect()
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        raise RunError(f"cannot write {path} ({error}); choose another --output, or make room") from error


def _log_view(rr: Any, recording: Any, scene: SceneObservation, view: int) -> None:
    """What one frame shows: picture and depth hang under its camera, its cloud stands in the world."""
    geometry = scene.geometry
    height, width = geometry.depth.shape[-2:]
    cam_from_world = geometry.cam_from_world[:1, view].cpu()
    recording.log(
        CAMERA,
        rr.Transform3D(
            translation=camera_centre(cam_from_world)[0].numpy(), mat3x3=cam_from_world[0, :, :3].T.numpy()
        ),
        rr.Pinhole(
            image_from_camera=geometry.intrinsics[0, view].cpu().numpy(),
            resolution=[width, height],
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=0.2,
        ),
    )
    picture = (scene.color[0, view].clamp(0, 1) * 255).round().byte().cpu().numpy()
    recording.log(f"{CAMERA}/picture", rr.Image(picture).compress(jpeg_quality=JPEG_QUALITY))
    recording.log(f"{CAMERA}/depth", rr.DepthImage(geometry.depth[0, view].cpu().numpy(), meter=1.0))
    is_own = view_of_point(scene).cpu() == view
    recording.log(
        CLOUD,
        rr.Points3D(
            scene.cloud.coord_m.cpu()[is_own].numpy(),
            colors=(scene.cloud.color.cpu()[is_own] * 255).round().byte().numpy(),
            radii=POINT_RADIUS_M,
        ),
    )


def _log_tokens(rr: Any, recording: Any, tokens: LatentActions) -> None:
    """One curve a token; codes are names, so points and no lines between them."""
    for position in range(tokens.codes.shape[1]):
        entity = f"{TOKENS}/{position}"
        recording.log(entity, rr.SeriesPoints(names=f"token {position}", marker_sizes=4), static=True)
    recording.reset_time()
    for time_s, codes in zip(tokens.current_time_s.tolist(), tokens.codes.tolist(), strict=True):
        recording.set_time("time", duration=time_s)
        for position, code in enumerate(codes):
            recording.log(f"{TOKENS}/{position}", rr.Scalars(code))


def _layout(rr: Any, *, has_tokens: bool) -> Any:
    """The world beside picture and depth, the tokens below."""
    blueprint = importlib.import_module("rerun.blueprint")
    flat = [
        blueprint.Spatial2DView(origin=CAMERA, contents=f"{CAMERA}/{name}", name=name)
        for name in ("picture", "depth")
    ]
    # Depth becomes points of its own in 3D; the cloud is what the encoder is given of them.
    contents = ["+ $origin/**", f"- {CAMERA}/depth"]
    above = blueprint.Horizontal(
        blueprint.Spatial3DView(origin=WORLD, contents=contents, name="one world"),
        blueprint.Vertical(*flat),
        column_shares=[2, 1],
    )
    below = [blueprint.TimeSeriesView(origin=TOKENS, name="tokens")] if has_tokens else []
    return blueprint.Blueprint(
        blueprint.Vertical(above, *below, row_shares=[3, 1][: 1 + len(below)]),
        blueprint.TimePanel(timeline="time"),
    )
