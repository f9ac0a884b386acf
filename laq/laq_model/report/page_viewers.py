"""The moving parts of a page: clips that share a code, and clouds that turn; their data is in the page."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..errors import ConfigError
from .html_page import CONTROL_TAG, paragraphs

SECONDS_PER_FRAME = 0.2  # slow enough to see what a short motion does
_STEPS = 32767  # coordinates travel as int16
WEBP_QUALITY = 70


@dataclass(frozen=True)
class Clip:
    """A few frames that play in a loop.

    Attributes:
        frames: RGB.
        caption: where it comes from.
        motion_px: the path of what moved, in pixels of the frames; drawn over them, with a dot at its end.
    """

    frames: UInt8[Tensor, "frames height width 3"]
    caption: str = ""
    motion_px: Float[Tensor, "places 2"] | None = None


@dataclass(frozen=True)
class ClipGroup:
    """Clips that belong together, such as those that share a code.

    Attributes:
        text: plain words under the name.
        is_control: what the other groups must be compared with; it is tagged.
    """

    name: str
    clips: Sequence[Clip]
    text: str = ""
    is_control: bool = False


@dataclass(frozen=True)
class ClipGallery:
    """Groups of clips, stopped by one button; they start still where a reader asked for less motion."""

    title: str
    groups: Sequence[ClipGroup]
    text: str = ""

    def body(self) -> str:
        """A heading and a row of clips for each group."""
        groups = "\n".join(
            f"<h3>{html.escape(group.name)}{CONTROL_TAG if group.is_control else ''}</h3>\n"
            f'{paragraphs(group.text)}<ul class="clips">'
            + "".join(_clip(clip) for clip in group.clips)
            + "</ul>"
            for group in self.groups
        )
        if not self.groups:
            return paragraphs("There is nothing to show here.")
        return f'<div class="gallery"><button type="button" hidden>Stop clips</button>\n{groups}\n</div>'


@dataclass(frozen=True)
class NamedCloud:
    """A cloud that the reader can show or hide.

    Attributes:
        coord: z up; all clouds of a view share one world and unit.
        color: RGB in [0, 1].
        is_shown: at first.
    """

    name: str
    coord: Float[Tensor, "points 3"]
    color: Float[Tensor, "points 3"]
    is_shown: bool = True


@dataclass(frozen=True)
class CloudView:
    """Clouds of one world on a canvas that turns: by pointer, by arrow keys, by buttons.

    Attributes:
        clouds: each with a box to show or hide it.
        heading: horizontal direction in which the viewer looks at first; with the camera's the view starts as
            the picture was taken.
        point_size: side of a drawn point, in the unit of the clouds.
    """

    title: str
    clouds: Sequence[NamedCloud]
    text: str = ""
    heading: tuple[float, float] = (0.0, 1.0)
    point_size: float = 0.035

    def __post_init__(self) -> None:
        for cloud in self.clouds:
            if not bool(torch.isfinite(cloud.coord).all()):
                raise ConfigError(f"cloud {cloud.name!r} has points that are not finite; filter them first")

    def body(self) -> str:
        """A canvas, its boxes and its buttons."""
        reaches = [float(cloud.coord.norm(dim=-1).max()) for cloud in self.clouds if len(cloud.coord)]
        steps_per_unit = _STEPS / max(reaches, default=1.0) if any(reaches) else 1.0
        boxes = "".join(_cloud(cloud, steps_per_unit) for cloud in self.clouds)
        buttons = "".join(
            f'<button type="button" data-key="{key}" aria-label="{name}">{sign}</button>'
            for key, sign, name in _BUTTONS
        )
        # At turn 0 the viewer looks along +y.
        turn = math.atan2(-self.heading[0], self.heading[1])
        settings = f'data-turn="{turn:.4f}" data-point-size="{self.point_size * steps_per_unit:.1f}"'
        label = f"{self.title}: a cloud of points; arrow keys turn it, plus and minus zoom, 0 goes back"
        return (
            f'<div class="cloud-view" {settings}>\n<div class="controls">{boxes}</div>\n'
            f'<canvas tabindex="0" role="img" aria-label="{html.escape(label)}"></canvas>\n'
            f'<div class="controls">{buttons}</div></div>'
        )


_BUTTONS = [
    ("ArrowLeft", "←", "turn to the left"),
    ("ArrowRight", "→", "turn to the right"),
    ("ArrowUp", "↑", "look from higher"),
    ("ArrowDown", "↓", "look from lower"),
    ("+", "+", "nearer"),
    ("-", "−", "farther"),
    ("0", "reset", "reset the view"),
]


def _clip(clip: Clip) -> str:
    num_frames, height, width, _ = clip.frames.shape
    strip = np.concatenate(list(clip.frames.cpu().numpy()), axis=1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    data = base64.b64encode(buffer.getvalue()).decode()
    # The last quarter of a round is a pause on the last frame.
    seconds = num_frames * SECONDS_PER_FRAME / 0.75
    style = (
        f"--frames:{num_frames};--seconds:{seconds:.2f}s;aspect-ratio:{width}/{height};"
        f"background-image:url(data:image/webp;base64,{data})"
    )
    caption = html.escape(clip.caption)
    return (
        f'<li><div class="clip" role="img" aria-label="clip: {caption}" style="{style}">'
        f"{_motion(clip, width, height)}</div>{caption}</li>"
    )


def _motion(clip: Clip, width: int, height: int) -> str:
    if clip.motion_px is None or len(clip.motion_px) == 0:
        return ""
    # A pixel's number is its middle, so the picture starts at −0.5.
    places = [f"{u + 0.5:.1f},{v + 0.5:.1f}" for u, v in clip.motion_px.tolist()]
    end_x, end_y = places[-1].split(",")
    thick = max(width, height) / 60
    line = f'points="{" ".join(places)}" fill="none" stroke-linecap="round" stroke-linejoin="round"'
    return (
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<polyline {line} stroke="#fff" stroke-width="{2 * thick:.2f}"/>'
        f'<polyline {line} stroke="#d55e00" stroke-width="{thick:.2f}"/>'
        f'<circle cx="{end_x}" cy="{end_y}" r="{1.6 * thick:.2f}" fill="#d55e00" stroke="#fff" '
        f'stroke-width="{thick / 2:.2f}"/></svg>'
    )


def _cloud(cloud: NamedCloud, steps_per_unit: float) -> str:
    steps = (cloud.coord.detach().cpu().double() * steps_per_unit).round().clamp(-_STEPS, _STEPS)
    levels = (cloud.color.detach().cpu().clamp(0, 1) * 255).round()
    coord = base64.b64encode(steps.numpy().astype("<i2").tobytes()).decode()
    color = base64.b64encode(levels.numpy().astype(np.uint8).tobytes()).decode()
    checked = " checked" if cloud.is_shown else ""
    return (
        f'<label><input type="checkbox"{checked} data-coord="{coord}" data-color="{color}">'
        f"{html.escape(cloud.name)}</label>"
    )
