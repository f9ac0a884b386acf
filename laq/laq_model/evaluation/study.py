"""All figures of an evaluation: the trained model's, and the same of every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..concerto_laq import ConcertoLAQ
from ..feature_store import PairName
from ..known_actions.actions import TrueActions
from ..metrics.health import Health, find_warnings
from ..report.page_sections import Picture
from .coded_pairs import CodedPairs
from .figures import (
    agreement_figures,
    code_figures,
    duplicate_codes,
    prediction_figures,
    standstill_figures,
)
from .pictures import draw_told_motion
from .probing import KINDS, Kind, Rows, Split, fit_probe, fold_of, probe_figures, scopes_of

TRAINED = "trained"  # the coder that the others are controls of
MAIN_TARGET = "ee_displacement"
OTHER_MAIN_TARGETS = ("state_change", "action")  # the first that is known, where the hand's motion is not
HARDLY_BETTER = 0.9  # of the error with random codes
_RANDOM = "control.random_codes."


@dataclass(frozen=True)
class Study:
    """What was measured, ready for figures.

    Attributes:
        coded: every coder over all pairs; the trained one is ``TRAINED``, the others are controls.
        seen: episodes that the model was trained on; its figures are of the others.
        small_frames: both frames as small pictures, if the videos are there.
    """

    model: ConcertoLAQ
    names: Sequence[PairName]
    coded: Mapping[str, CodedPairs]
    truth: TrueActions
    seen: frozenset[str]
    splits: Sequence[Split]
    small_frames: Float[Tensor, "pairs 2 pixels"] | None = None
    probe_kinds: Sequence[Kind] = KINDS

    @property
    def is_held_out(self) -> Bool[Tensor, " pairs"]:
        """Pairs of episodes that the model never saw."""
        return torch.tensor([name not in self.seen for name in self.truth.episode])

    @property
    def main_target(self) -> str:
        """What every control is asked to tell, too."""
        known = [name for name in (MAIN_TARGET, *OTHER_MAIN_TARGETS) if name in self.truth.targets]
        return known[0] if known else MAIN_TARGET

    def figures(self) -> dict[str, float]:
        """All of them; a control's twin of KEY is ``control.NAME.KEY``."""
        figures = self._figures_of(self.coded[TRAINED], is_control=False)
        figures["codes.duplicates"] = float(duplicate_codes(self.model))
        figures |= _kept(figures)
        for name, coded in self.coded.items():
            if name != TRAINED:
                figures |= _prefixed(f"control.{name}.", self._figures_of(coded, is_control=True))
        for name, x in self._pixels().items():
            figures |= _prefixed(f"control.{name}.", self._probes({"": x}, self.main_target))
        return figures

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What looks wrong with the codes, one line each."""
        health = Health(
            progress=1.0,
            codebook_size=self.model.config.codebook_size,
            num_pairs=int(self.is_held_out.sum()),
            position_perplexity=[
                figures[f"codes.perplexity.{place}"] for place in range(self.model.config.code_seq_len)
            ],
            copy_ratio=figures.get("copy_ratio_hard", 1.0),
            num_duplicates=int(figures["codes.duplicates"]),
            identical_token_fraction=figures["codes.identical_token_fraction"],
        )
        found = list(find_warnings([health]).values())
        ratio, by_chance = (figures.get(f"{prefix}copy_ratio_hard") for prefix in ("", _RANDOM))
        if ratio is not None and by_chance is not None and ratio > HARDLY_BETTER * by_chance:
            found.append(
                f"the prediction is hardly better than with random codes (ratio to copying {ratio:.2f}, "
                f"with random codes {by_chance:.2f}): the codes carry little of what it knows"
            )
        return found

    def pictures(self) -> list[Picture]:
        """Told against true motion, where the truth is known."""
        found = []
        target = self.truth.targets.get(MAIN_TARGET)
        for prefix, rows in scopes_of(self.truth.view).items():
            fold = fold_of(self.splits[0], rows, episode=self.truth.episode)
            if target is not None and fold is not None and not prefix.startswith("transfer."):
                told = fit_probe("linear", self.coded[TRAINED].embedding, target, fold).prediction
                title = prefix.split(".")[1] + " camera" if prefix else "all cameras"
                true = target.values[fold.is_test]
                found += draw_told_motion(told, true, dimensions=target.dimensions, title=title)
        return found

    def _figures_of(self, coded: CodedPairs, *, is_control: bool) -> dict[str, float]:
        is_held_out, codebook_size = self.is_held_out, self.model.config.codebook_size
        figures = prediction_figures(coded, is_held_out, self._motion_size())
        figures |= code_figures(coded.codes[is_held_out], codebook_size=codebook_size)
        figures |= agreement_figures(coded.codes, self.names, self.truth, is_held_out)
        figures |= standstill_figures(coded, self.truth, is_held_out)
        figures |= self._probes({"": coded.embedding, "continuous": coded.continuous}, self.main_target)
        if is_control:
            return figures
        figures |= self._camera_probe(coded)
        figures |= self._probes({"onehot": coded.one_hot(codebook_size)}, self.main_target)
        for target in self.truth.targets:
            if target != self.main_target:
                figures |= self._probes({"": coded.embedding}, target)
        return figures

    def _probes(self, inputs: Mapping[str, Float[Tensor, "pairs dim"]], target: str) -> dict[str, float]:
        figures: dict[str, float] = {}
        if target in self.truth.targets:
            for prefix, rows in scopes_of(self.truth.view).items():
                found = probe_figures(
                    inputs,
                    self.truth.targets[target],
                    rows,
                    name=target,
                    episode=self.truth.episode,
                    splits=self.splits,
                    kinds=self.probe_kinds,
                )
                figures |= _prefixed(prefix, found)
        return figures

    def _camera_probe(self, coded: CodedPairs) -> dict[str, float]:
        """What the codes tell of the camera's own motion, which they should not."""
        motion = self.truth.camera_motion
        is_moving = torch.tensor([view not in ("", "fixed") for view in self.truth.view])
        if motion is None or not bool(is_moving.any()):
            return {}
        found = probe_figures(
            {"": coded.embedding},
            motion,
            Rows(is_moving, is_moving),
            name="camera_motion",
            episode=self.truth.episode,
            splits=self.splits,
            kinds=self.probe_kinds,
        )
        return _prefixed("camera.", found)

    def _pixels(self) -> dict[str, Float[Tensor, "pairs dim"]]:
        if self.small_frames is None:
            return {}
        current, future = self.small_frames.unbind(1)
        return {"first_frame": current, "pixel_difference": future - current}

    def _motion_size(self) -> Float[Tensor, " pairs"]:
        """Metres that the hand moves; where that is not known, how wrong copying is."""
        known = self.truth.targets.get(MAIN_TARGET)
        return self.coded[TRAINED].copy_error[:, 0] if known is None else known.values.norm(dim=1)


def _kept(figures: Mapping[str, float]) -> dict[str, float]:
    """Share of the fixed camera's R² that a probe keeps when it is judged on the moving one."""
    kept = {}
    for kind in ("linear", "mlp"):
        key = f"probe.{kind}.{MAIN_TARGET}.r2_mean"
        across, fixed = figures.get(f"transfer.fixed_to_moving.{key}"), figures.get(f"view.fixed.{key}")
        if across is not None and fixed is not None and fixed > 0:
            kept[f"transfer.fixed_to_moving.kept.{kind}"] = across / fixed
    return kept


def _prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{key}": value for key, value in figures.items()}
