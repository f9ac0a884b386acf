"""What each code means, as far as clips can say it: moments that share a code, and what moved in them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError
from ..known_actions.actions import episode_and_view
from .code_groups import (
    CodedPairs,
    CodeGroup,
    agreement_by_chance,
    apart,
    direction_agreement,
    most_used,
    spread,
)
from .page_viewers import Clip, ClipGallery, ClipGroup
from .pair_frames import PairFrames
from .pair_motion import PairMotion

TITLE = "What each code means"


@dataclass(frozen=True)
class GallerySize:
    """How much of the gallery is shown."""

    num_codes: int = 3
    """Codes shown for each token, and combinations of all tokens: the most used."""
    clips_per_code: int = 6
    """Clips shown of each code, at most."""
    clip_px: int = 112
    """Side of a clip, in pixels; what the page weighs grows with its square."""

    def __post_init__(self) -> None:
        for name in ("num_codes", "clips_per_code", "clip_px"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


def code_gallery(
    pairs: CodedPairs, frames: PairFrames, motion: PairMotion | None, size: GallerySize
) -> ClipGallery:
    """Clips of the most used codes at each position and of the most used combinations, then of any pairs.

    Which clips are shown follows from their places in time alone (see ``spread``).

    Args:
        pairs: of videos that ``frames`` has.

    Raises:
        LAQError: a frame cannot be decoded, or the motion's source refuses a pair.
    """
    positions = range(pairs.codes.shape[1])
    groups = [
        *(g for position in positions for g in most_used(pairs, position=position, count=size.num_codes)),
        *most_used(pairs, position=None, count=size.num_codes),
    ]
    if not groups:
        return ClipGallery(TITLE, [], "No code occurs at two moments of these videos.")
    control = spread(pairs.names, apart(pairs.names, range(len(pairs.names))), size.clips_per_code)
    chosen = [spread(pairs.names, group.moments, size.clips_per_code) for group in groups]
    wanted = list(dict.fromkeys(row for rows in [*chosen, control] for row in rows))
    clips = {
        row: _clip(pairs, row, frames, motion, size.clip_px)
        for row in tqdm(wanted, desc="clips", unit="clip")
    }
    shown = [
        ClipGroup(_name(group), [clips[row] for row in rows], _facts(pairs, group, motion))
        for group, rows in zip(groups, chosen, strict=True)
    ]
    shown.append(
        ClipGroup("Any pairs", [clips[row] for row in control], "Whatever their codes.", is_control=True)
    )
    return ClipGallery(TITLE, shown, _how_to_read(motion))


def _clip(pairs: CodedPairs, row: int, frames: PairFrames, motion: PairMotion | None, side_px: int) -> Clip:
    name = pairs.names[row]
    place = " ".join(part for part in episode_and_view(name.video) if part)
    return Clip(
        frames.clip(name, side_px=side_px),
        caption=f"{place}, {name.current_time_s:.1f} s",
        motion_px=motion.path_of(row, side_px) if motion and motion.path_of else None,
    )


def _name(group: CodeGroup) -> str:
    if group.position is None:
        return f"All tokens: {' · '.join(str(code) for code in group.code)}"
    return f"Token {group.position} is {group.code[0]}"


def _facts(pairs: CodedPairs, group: CodeGroup, motion: PairMotion | None) -> str:
    videos = len({pairs.names[row].video for row in group.rows})
    facts = f"{len(group.rows)} of {len(pairs.names)} pairs, in {videos} video{'s' if videos > 1 else ''}."
    if motion is None:
        return facts
    shifts = _known(motion.shift[list(group.moments)])
    every = _known(motion.shift[apart(pairs.names, range(len(pairs.names)))])
    if len(shifts) < 2 or float(shifts.norm(dim=1).sum()) == 0:
        return facts
    agreement, chance = direction_agreement(shifts), agreement_by_chance(every, len(shifts))
    return (
        f"{facts} On average {motion.compass.words(shifts.mean(0))}. Agreement on the direction: "
        f"{agreement:.2f}; of any {len(shifts)} pairs, whatever their codes: {chance:.2f}."
    )


def _known(shifts: Float[Tensor, "pairs 3"]) -> Float[Tensor, "known 3"]:
    return shifts[~shifts.isnan().any(1)]


def _how_to_read(motion: PairMotion | None) -> str:
    text = (
        "A code is a number without a name: it stands for what its clips have in common. These are the "
        "codes that most pairs have at each token, and the most used combinations of all tokens. Clips are "
        "taken evenly over videos and time, not by their looks."
    )
    if motion is None:
        return f"{text}\n\nNo motion is drawn, because it is not known here."
    agreement = "Agreement on the direction is 1 where all go one way, and near 0 where they cancel."
    if motion.path_of is None:
        return f"{text}\n\nDirections are those of {motion.what}. {agreement}"
    return (
        f"{text}\n\nThe line is the way of {motion.what}, from the current frame to the dot in the future "
        f"one, as the future frame's camera sees it. {agreement}"
    )
