"""One pair of frames in one world: what changed, on a sheet, and a view that turns."""

from __future__ import annotations

from ..encoder_config import EncoderConfig
from ..feature_store import PairName
from ..scene_observation import SceneObservation
from .changed_cells import find_changed_cells
from .html_page import Section
from .overlay_sheet import overlay_png
from .page_sections import Figure, Picture
from .scene_view import scene_view


def pair_scene_sections(scene: SceneObservation, name: PairName, config: EncoderConfig) -> list[Section]:
    """A sheet of the two frames with what changed between them, and their clouds.

    Args:
        scene: one scene of the pair's two frames.
        name: which pair it is.
        config: the encoder's, for its cells and voxels.
    """
    frame_names = (f"frame {name.current_index}", f"frame {name.future_index}")
    geometry = "depth and cameras as recorded" if scene.geometry.is_metric else "from RGB alone"
    sheet = overlay_png(
        scene,
        find_changed_cells(scene, config),
        title=f"{name.video}: what moved from {frame_names[0]} to {frame_names[1]}",
        frame_names=frame_names,
        config=config,
    )
    picture = Picture(
        sheet,
        alt=f"{' and '.join(frame_names)} of {name.video} in one world, with the places that changed marked",
        caption=f"{name.video}, {geometry}",
        width_px=960,
        is_sheet=True,
    )
    return [
        Figure("What moved between two frames", [picture]),
        scene_view(scene, frame_names, title="The two frames in one world", config=config),
    ]
