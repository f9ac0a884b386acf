"""What a reader of a run's page must know before believing it."""

from __future__ import annotations

from ..encoder_config import EncoderConfig
from ..published_weights import EMBEDDED

FEW_VIDEOS = 200

_CODES = (
    "A code means nothing by itself: its number is learned, and another training gives other numbers. What a "
    "gallery shows is what some clips have in common; a probe beside its controls is the measurement."
)
_SEEN = (
    "Only the middle square of a frame is looked at, and only what both frames of a pair see can count as "
    "motion: what comes into view, or is hidden in one of them, tells nothing."
)
_EMBEDDED = (
    "The embedded networks are small ones that ship with the package, trained on rendered scenes of a "
    "robot arm at a table. They read depth from a picture fairly well, but not how far a hand moves along "
    "the line of sight, which is read off the growth of its picture; their cameras are rough and refined "
    "afterwards. The published networks are made for real footage."
)
_PREDICTED = (
    "Depth and cameras are predicted from pictures: lengths are known up to a factor, and motion along the "
    "line of sight is told worse than motion across it."
)


def known_limits(encoder: EncoderConfig, *, num_trained_on: int | None) -> list[str]:
    """Paragraphs, for the page of a run with this encoder.

    Args:
        num_trained_on: videos; None where it is not known.
    """
    is_predicted = encoder.geometry != "sensor"
    is_embedded = encoder.concerto_model == EMBEDDED or (
        encoder.geometry == "vggt" and encoder.vggt_model == EMBEDDED
    )
    limits = [_CODES, _SEEN]
    if is_embedded:
        limits.append(_EMBEDDED)
    elif is_predicted:
        limits.append(_PREDICTED)
    if num_trained_on is not None and num_trained_on < FEW_VIDEOS:
        limits.append(f"{num_trained_on} videos were trained on, which is few: more data, better tokens.")
    return limits
