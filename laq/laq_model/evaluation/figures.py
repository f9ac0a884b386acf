"""Figures of the codes that need no probe: prediction, use, agreement of cameras, standstill."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..concerto_laq import ConcertoLAQ
from ..feature_store import PairName
from ..known_actions.actions import STILL_VIEW, TrueActions
from ..metrics.codebook import code_usage, same_code_fraction
from ..metrics.health import count_duplicates, identical_token_fraction
from ..metrics.prediction import copy_ratio
from .coded_pairs import GROUPS, CodedPairs

MOTION_SIZES = ("small", "medium", "large")  # thirds of the pairs


def prediction_figures(
    coded: CodedPairs, is_counted: Bool[Tensor, " pairs"], motion: Float[Tensor, " pairs"]
) -> dict[str, float]:
    """``copy_ratio_hard`` over all places, by group of places or channels, and by size of motion.

    Args:
        motion: how much happens in each pair; the counted pairs are cut into thirds by it.
    """
    error, copying = coded.error[is_counted], coded.copy_error[is_counted]
    figures = {}
    for column, group in enumerate(GROUPS):
        if float(copying[:, column].sum()) > 0:
            suffix = "" if group == "all" else f".{group}"
            figures[f"copy_ratio_hard{suffix}"] = copy_ratio(error[:, column], copying[:, column])
    order = motion[is_counted].argsort(stable=True)
    for size, rows in zip(MOTION_SIZES, order.tensor_split(len(MOTION_SIZES)), strict=True):
        if len(rows) and float(copying[rows, 0].sum()) > 0:
            figures[f"copy_ratio_hard.motion_{size}"] = copy_ratio(error[rows, 0], copying[rows, 0])
            figures[f"motion_{size}.mean"] = float(motion[is_counted][rows].mean())
    return figures


def code_figures(codes: Int[Tensor, "pairs positions"], *, codebook_size: int) -> dict[str, float]:
    """Use of the codes, all positions together, each, and as whole combinations; entropies in bits."""
    usage = code_usage(codes, codebook_size=codebook_size)
    figures = {
        "codes.used_fraction": usage.used_fraction,
        "codes.perplexity": usage.perplexity,
        "codes.entropy_bits": _bits(usage.perplexity),
        "codes.joint_count": float(usage.num_joint),
        "codes.joint_perplexity": usage.joint_perplexity,
        "codes.joint_entropy_bits": _bits(usage.joint_perplexity),
        "codes.identical_token_fraction": identical_token_fraction(codes),
    }
    for position, (used, perplexity) in enumerate(
        zip(usage.position_used_fraction, usage.position_perplexity, strict=True)
    ):
        figures[f"codes.used_fraction.{position}"] = used
        figures[f"codes.perplexity.{position}"] = perplexity
        figures[f"codes.entropy_bits.{position}"] = _bits(perplexity)
    return figures


@torch.no_grad()
def duplicate_codes(model: ConcertoLAQ) -> int:
    """Codes that lie where another lies, and can never be chosen."""
    index = torch.arange(model.config.codebook_size, device=model.feature_mean.device)
    table = model.quantizer.lookup(index[:, None].expand(-1, model.config.code_seq_len))
    return count_duplicates(table[:, 0])


def agreement_figures(
    codes: Int[Tensor, "pairs positions"],
    names: Sequence[PairName],
    truth: TrueActions,
    is_counted: Bool[Tensor, " pairs"],
) -> dict[str, float]:
    """How often the same moment, seen by the fixed and by the moving camera, gets the same codes.

    ``control.other_moment`` compares each moment with another one of the same set: what chance gives.
    """
    row_of = {
        (truth.view[row], truth.episode[row], name.current_index): row
        for row, name in enumerate(names)
        if bool(is_counted[row])
    }
    both = [
        (row, row_of["moving", episode, current])
        for (view, episode, current), row in row_of.items()
        if view == "fixed" and ("moving", episode, current) in row_of
    ]
    if not both:
        return {}
    fixed, moving = (codes[list(rows)] for rows in zip(*both, strict=True))
    other = moving.roll(len(moving) // 2, 0)
    return {
        "agreement.same_code_fraction": same_code_fraction(fixed, moving),
        "agreement.same_pair_fraction": _all_equal(fixed, moving),
        "agreement.num_pairs": float(len(both)),
        "control.other_moment.agreement.same_code_fraction": same_code_fraction(fixed, other),
        "control.other_moment.agreement.same_pair_fraction": _all_equal(fixed, other),
    }


def standstill_figures(
    coded: CodedPairs, truth: TrueActions, is_counted: Bool[Tensor, " pairs"]
) -> dict[str, float]:
    """How many pairs without motion get the code of standing still, and how many with motion do.

    The code of standing still is the one that most pairs of a frozen scene before a moving camera get; where
    there are none, the one that most frames with themselves get. ``same_token_fraction`` says how much of
    these two is alike.
    """
    is_still = torch.tensor([view == STILL_VIEW for view in truth.view])
    of_identical = _most_frequent(coded.standstill_codes)
    still_codes = coded.codes[is_counted & is_still]
    standstill = _most_frequent(still_codes) if len(still_codes) else of_identical
    figures = {
        "standstill.identical_frames_fraction": _all_equal(coded.standstill_codes, of_identical),
        "standstill.acting_pairs_fraction": _all_equal(coded.codes[is_counted & ~is_still], standstill),
    }
    if len(still_codes):
        figures["standstill.still_pairs_fraction"] = _all_equal(still_codes, standstill)
        figures["standstill.same_token_fraction"] = float((of_identical == standstill).float().mean())
    return figures


def _most_frequent(codes: Int[Tensor, "pairs positions"]) -> Int[Tensor, " positions"]:
    combinations, counts = codes.unique(dim=0, return_counts=True)
    return combinations[counts.argmax()]


def _all_equal(codes: Int[Tensor, "pairs positions"], wanted: Tensor) -> float:
    return float((codes == wanted).all(1).float().mean())


def _bits(perplexity: float) -> float:
    return float(torch.tensor(perplexity, dtype=torch.float64).log2())
