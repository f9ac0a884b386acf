"""Two frames in one world on a sheet: what changed is coloured, what stayed is grey.

Colours are near Okabe and Ito's, which stay apart for colour-blind readers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..scene_observation import SceneObservation
from .changed_cells import (
    APPEARED,
    COLOUR_CHANGE,
    RECOLOURED,
    SAME,
    UNSEEN,
    VANISHED,
    ChangedCells,
    view_of_point,
)
from .frame_sheet import unit_of
from .output_file import write_file
from .pointcloud_view import draw_cloud, half_width, point_size_for, sides_of
from .sheet import INK, MUTED, Colour, Sheet

COLOUR_OF_KIND = {
    VANISHED: (0.84, 0.37, 0.0),  # vermilion
    APPEARED: (0.0, 0.45, 0.70),  # blue
    RECOLOURED: (0.70, 0.33, 0.55),  # purple, darkened until its words are legible on white
}
_MEANING = {
    VANISHED: "vanished: occupied, then free",
    APPEARED: "appeared: free, then occupied",
    RECOLOURED: f"recoloured by more than {COLOUR_CHANGE:g}",
}


def highlight(
    color: Float[Tensor, "*points 3"], kind: Int[Tensor, "*points"], *, fade: bool
) -> Float[Tensor, "*points 3"]:
    """Changed points in the colour of their kind.

    The others keep their own colour; with ``fade`` they go grey, and almost white where nothing can be said.
    """
    shown = color.detach().cpu().float().clone()
    if fade:
        grey = shown.mean(dim=-1, keepdim=True)
        is_same = (kind == SAME)[..., None]
        shown = torch.where(is_same, 0.35 + 0.35 * grey, 0.76 + 0.16 * grey).expand_as(shown).clone()
    for changed, colour in COLOUR_OF_KIND.items():
        shown[kind == changed] = torch.tensor(colour)
    return shown


def write_overlay_sheet(
    path: Path,
    scene: SceneObservation,
    changed: ChangedCells,
    *,
    title: str,
    frame_names: tuple[str, str],
    config: EncoderConfig,
) -> None:
    """Write ``overlay_png`` to ``path``, in one step.

    Raises:
        RunError: the file cannot be written.
    """
    write_file(path, overlay_png(scene, changed, title=title, frame_names=frame_names, config=config))


def overlay_png(
    scene: SceneObservation,
    changed: ChangedCells,
    *,
    title: str,
    frame_names: tuple[str, str],
    config: EncoderConfig,
) -> bytes:
    """A scene's two views and what changed between them, as a PNG file.

    Args:
        scene: one scene of two views.
        changed: what ``find_changed_cells`` says of it.
        title: which video it is.
        frame_names: how the two frames are called, current first.
        config: the encoder's, for its cells and voxels.
    """
    unit = unit_of(scene)
    sheet = Sheet(title, rows=2, columns=4)
    for view, name in enumerate(frame_names):
        sheet.image(name, scene.color[0, view].double().cpu().numpy())
    for view, name in enumerate(frame_names):
        pixels = highlight(scene.color[0, view], changed.kind_of_pixel[view], fade=True)
        sheet.image(f"{name}: what changed", pixels.double().numpy())
    coord = scene.cloud.coord_m.cpu()
    color = highlight(scene.cloud.color, changed.kind_of_point, fade=True)
    is_changed = torch.isin(changed.kind_of_point, torch.tensor(list(COLOUR_OF_KIND)))
    sides = sides_of(scene.geometry.cam_from_world[0, 0])
    width = half_width(coord, sides)
    point_size = point_size_for(len(coord), half_width=width, smallest=config.voxel_size_m)
    for side in sides:
        picture = draw_cloud(coord, color, side, half_width=width, point_size=point_size, on_top=is_changed)
        sheet.cloud(picture, side, half_width=width, unit=unit)
    sheet.text("cells of the world", _legend(scene, changed, frame_names, config.cell_size_m))
    return sheet.png()


def _legend(
    scene: SceneObservation, changed: ChangedCells, frame_names: tuple[str, str], cell_size_m: float
) -> list[tuple[str, str, Colour]]:
    view = view_of_point(scene)
    points = " and ".join(f"{int((view == v).sum())}" for v in range(2))
    return [
        *[(f"{changed.count(kind)}", _MEANING[kind], colour) for kind, colour in COLOUR_OF_KIND.items()],
        (f"{changed.count(SAME)}", "same in both frames (grey)", MUTED),
        (f"{changed.count(UNSEEN)}", "not seen by both: no evidence (pale)", MUTED),
        ("", "", INK),
        ("", f"cells of {cell_size_m:g} {unit_of(scene)}", MUTED),
        ("", f"clouds of {points} points", MUTED),
        ("", f"as seen by the camera of {frame_names[0]};", MUTED),
        ("", "what changed shows through what stayed", MUTED),
    ]
