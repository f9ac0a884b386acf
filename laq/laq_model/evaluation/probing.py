"""Probes of many representations by one rule: split by episode, several times, within and across cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..known_actions.actions import STILL_VIEW, Target
from ..metrics.probes import ProbeResult, mlp_probe, ridge_probe

Kind = Literal["linear", "mlp"]
KINDS: tuple[Kind, ...] = ("linear", "mlp")

FIT_SHARE = 0.8  # of the episodes that a probe may be fitted on; each seed takes others
TEST_SHARE = 0.3  # of the episodes, where none was trained on


@dataclass(frozen=True)
class Split:
    """The episodes of one fit of a probe; no episode is on both sides.

    Attributes:
        seed: of the probe's own weights.
    """

    fit: frozenset[str]
    test: frozenset[str]
    seed: int


@dataclass(frozen=True)
class Rows:
    """Which pairs a probe is fitted on, and on which it is judged, by their views and episodes."""

    is_fit_view: Bool[Tensor, " pairs"]
    is_test_view: Bool[Tensor, " pairs"]


@dataclass(frozen=True)
class Fold:
    """The pairs of one fit.

    Attributes:
        groups: episode of each pair that is fitted on.
    """

    is_fit: Bool[Tensor, " pairs"]
    is_test: Bool[Tensor, " pairs"]
    groups: Sequence[str]
    seed: int


def split_episodes(episodes: Sequence[str], seen: frozenset[str], *, seeds: int, seed: int) -> list[Split]:
    """One split for each of ``seeds``.

    Probes are fitted on episodes that the model was trained on and judged on all the others, which neither
    saw. Where the model saw none of them, the episodes are dealt out anew for each seed.
    """
    names = sorted(set(episodes))
    known = [name for name in names if name in seen]
    splits = []
    for number in range(seeds):
        rng = np.random.default_rng([seed, number])
        if known:
            count = max(min(2, len(known)), round(FIT_SHARE * len(known)))
            fit = frozenset(rng.permutation(known)[:count].tolist())
            splits.append(Split(fit, frozenset(names) - seen, number))
        else:
            count = max(1, round(TEST_SHARE * len(names)))
            test = frozenset(rng.permutation(names)[:count].tolist())
            splits.append(Split(frozenset(names) - test, test, number))
    return splits


def scopes_of(views: Sequence[str]) -> dict[str, Rows]:
    """Prefix of a figure's name → the views that it is fitted and judged on.

    All cameras together; each alone, where there are several; and from fixed to moving. Frozen scenes have no
    motion to tell, and are left out.
    """
    array = np.array(views)
    acting = [view for view in dict.fromkeys(views) if view != STILL_VIEW]
    rows = {view: torch.from_numpy(array == view) for view in acting}
    everything = torch.from_numpy(array != STILL_VIEW)
    scopes = {"": Rows(everything, everything)}
    if len(acting) > 1:
        scopes |= {f"view.{view}.": Rows(rows[view], rows[view]) for view in acting}
    if {"fixed", "moving"} <= rows.keys():
        scopes["transfer.fixed_to_moving."] = Rows(rows["fixed"], rows["moving"])
    return scopes


def probe_figures(
    inputs: Mapping[str, Float[Tensor, "pairs dim"]],
    target: Target,
    rows: Rows,
    *,
    name: str,
    episode: Sequence[str],
    splits: Sequence[Split],
    kinds: Sequence[Kind] = KINDS,
) -> dict[str, float]:
    """``probe.KIND.NAME.r2_mean`` and so on, for the input called ""; ``probe.KIND_INPUT...`` for the others.

    ``r2_mean`` is the mean over dimensions and seeds, ``r2_std`` the deviation over seeds, ``r2.DIMENSION``
    the mean over seeds. A dimension without variance among the judged pairs has no R² and is left out; so is
    the whole figure where too few episodes remain to fit a probe.
    """
    figures: dict[str, float] = {}
    for input_name, x in inputs.items():
        for kind in kinds:
            folds = [fold_of(split, rows, episode=episode) for split in splits]
            r2 = [torch.tensor(fit_probe(kind, x, target, fold).r2) for fold in folds if fold is not None]
            if not r2:
                continue
            prefix = f"probe.{kind}{'_' if input_name else ''}{input_name}.{name}"
            figures |= _summary(prefix, torch.stack(r2), target.dimensions)
    return figures


def fold_of(split: Split, rows: Rows, *, episode: Sequence[str]) -> Fold | None:
    """The pairs of a split in a scope; None where there is not enough to fit or to judge."""
    is_fit = rows.is_fit_view & torch.tensor([name in split.fit for name in episode])
    is_test = rows.is_test_view & torch.tensor([name in split.test for name in episode])
    groups = [name for name, is_in in zip(episode, is_fit.tolist(), strict=True) if is_in]
    if len(set(groups)) < 2 or int(is_test.sum()) < 2:
        return None
    return Fold(is_fit, is_test, groups, split.seed)


def fit_probe(kind: Kind, x: Float[Tensor, "pairs dim"], target: Target, fold: Fold) -> ProbeResult:
    """Fit one probe, and judge it on the fold's other pairs."""
    sides = (x[fold.is_fit], target.values[fold.is_fit], x[fold.is_test], target.values[fold.is_test])
    if kind == "linear":
        return ridge_probe(*sides, groups=fold.groups)
    return mlp_probe(*sides, groups=fold.groups, seed=fold.seed)


def _summary(prefix: str, r2: Float[Tensor, "seeds dims"], dimensions: Sequence[str]) -> dict[str, float]:
    each = r2.nanmean(dim=0)
    mean = r2.nanmean(dim=1)
    if bool(mean.isnan().all()):
        return {}
    found = {f"{prefix}.r2_mean": float(mean.nanmean())}
    if len(mean) > 1:
        found[f"{prefix}.r2_std"] = float(mean.std())
    return found | {
        f"{prefix}.r2.{dimension}": value
        for dimension, value in zip(dimensions, each.tolist(), strict=True)
        if not math.isnan(value)
    }
