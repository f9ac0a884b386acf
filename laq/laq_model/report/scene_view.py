"""The clouds of a scene as a view that turns: each frame, and what changed between two."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..encoder_config import EncoderConfig
from ..scene_observation import SceneObservation
from .changed_cells import find_changed_cells, view_of_point
from .overlay_sheet import COLOUR_OF_KIND, highlight
from .page_viewers import CloudView, NamedCloud
from .pointcloud_view import point_size_for, sides_of

HOW_TO_TURN = "Drag sideways or use the arrow keys to turn it; plus and minus zoom."
HOW_TO_READ = (
    "Vermilion: cells of the world that were occupied and are free; blue: free, then occupied; purple: of "
    "another colour. Cells that one frame does not see count as unchanged."
)


def scene_view(
    scene: SceneObservation, frame_names: Sequence[str], *, title: str, config: EncoderConfig
) -> CloudView:
    """The clouds of the first scene, seen along the first camera's heading.

    Args:
        scene: of one frame or two.
        frame_names: how its frames are called; the first is shown at once.
        title: of the section.
        config: the encoder's, for its cells and voxels.
    """
    coord, color = scene.cloud.coord_m.cpu(), scene.cloud.color.cpu()
    view = view_of_point(scene)
    clouds = [
        NamedCloud(name, coord[view == number], color[view == number], is_shown=number == 0)
        for number, name in enumerate(frame_names)
    ]
    text = HOW_TO_TURN
    if len(frame_names) == 2:
        kind = find_changed_cells(scene, config).kind_of_point
        is_changed = torch.isin(kind, torch.tensor(list(COLOUR_OF_KIND)))
        marked = highlight(color, kind, fade=False)[is_changed]
        clouds.append(NamedCloud("what changed", coord[is_changed], marked))
        text += f"\n\n{HOW_TO_READ}"
    sides = sides_of(scene.geometry.cam_from_world[0, 0])
    heading_x, heading_y, _ = sides[2].up.tolist()
    size = point_size_for(len(clouds[0].coord), half_width=config.half_extent_m, smallest=config.voxel_size_m)
    return CloudView(title, clouds, text, heading=(heading_x, heading_y), point_size=size)
