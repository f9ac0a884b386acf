"""What moved in each pair: as somebody recorded it, or as the tokens see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..encoder_config import EncoderConfig
from ..feature_store import PairName
from ..known_actions.actions import ActionFrame, TrueActions
from ..scene_observation import SceneObservation
from ..video.recorded_geometry import RecordedFolder
from .motion_paths import hand_path, mass_path

HAND = "ee_displacement"


@dataclass(frozen=True)
class Compass:
    """How a shift is said in words.

    Attributes:
        is_camera: its axes are those of a level camera (right, away, up), not of a recorded world (x, y, z).
        unit: of a hundredth of the shift's own unit.
    """

    is_camera: bool
    unit: str = "cm"

    def words(self, shift: Float[Tensor, " 3"]) -> str:
        """Its large components: "2.1 cm to the right, 1.0 up"."""
        names = (
            [("to the left", "to the right"), ("nearer", "away"), ("down", "up")]
            if self.is_camera
            else [("along −x", "along x"), ("along −y", "along y"), ("along −z", "along z")]
        )
        size = float(shift.norm())
        large = [
            (f"{100 * abs(value):.1f}", pair[value > 0])
            for value, pair in zip(shift.tolist(), names, strict=True)
            if abs(value) > size / 4
        ]
        units = [f" {self.unit}", *("" for _ in large[1:])]
        parts = [f"{length}{unit} {way}" for (length, way), unit in zip(large, units, strict=False)]
        return ", ".join(parts) or "nowhere"


@dataclass(frozen=True)
class PairMotion:
    """What moved in each pair.

    Attributes:
        what: whose way it is, in words.
        shift: from the current to the future frame, in (nominal) metres; NaN where it is not known.
        compass: of the shift's axes.
        path_of: row of a pair and side of a clip in pixels → the way over its frames, or None; None where no
            way can be drawn.
    """

    what: str
    shift: Float[Tensor, "pairs 3"]
    compass: Compass
    path_of: Callable[[int, int], Float[Tensor, "places 2"] | None] | None


def known_motion(
    names: Sequence[PairName], truth: TrueActions, recorded: RecordedFolder | None, *, frame: ActionFrame
) -> PairMotion | None:
    """The hand's, where it was recorded; drawn where the cameras were, too.

    Args:
        frame: of the truth's axes.
    """
    if HAND not in truth.targets:
        return None

    def path_of(row: int, side_px: int) -> Float[Tensor, "places 2"] | None:
        assert recorded is not None
        return hand_path(recorded, names[row], side_px=side_px)

    return PairMotion(
        what="the hand, as recorded",
        shift=truth.targets[HAND].values,
        # Tables are taken as they are: only recorded cameras can turn a motion into their axes.
        compass=Compass(is_camera=frame == "camera" and recorded is not None),
        path_of=path_of if recorded else None,
    )


def seen_motion(
    centres: Float[Tensor, "pairs 2 3"],
    scene_of: Callable[[int], SceneObservation],
    config: EncoderConfig,
) -> PairMotion:
    """Of what each frame shows and the other sees through: the model's own view of what moved.

    Args:
        centres: of ``action_model.motion.mass_centres``.
        scene_of: row of a pair → its two frames in one world.
    """

    def path_of(row: int, side_px: int) -> Float[Tensor, "places 2"] | None:
        if bool(centres[row].isnan().any()):
            return None
        return mass_path(scene_of(row), centres[row], half_extent_m=config.half_extent_m, side_px=side_px)

    is_metric = config.geometry == "sensor"
    return PairMotion(
        what="what moved, as the model sees it (the middle of what is gone, to the middle of what is new)",
        shift=(centres[:, 1] - centres[:, 0]) * config.half_extent_m,
        compass=Compass(is_camera=not is_metric, unit="cm" if is_metric else "nominal cm"),
        path_of=path_of,
    )
