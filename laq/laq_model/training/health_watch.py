"""Looks at the health of a run at every evaluation, and says each trouble once."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from ..concerto_laq import ConcertoLAQ
from ..metrics.health import Health, count_duplicates, find_warnings, idle_parameters


class HealthWatch:
    """Remembers the looks of one run and what was said.

    Args:
        state: of an earlier watch of the same run, to go on from.
    """

    def __init__(self, state: dict[str, Any] | None = None):
        state = state or {"looks": [], "said": []}
        self._looks = [Health(**look) for look in state["looks"]]
        self._said: set[str] = set(state["said"])

    def state(self) -> dict[str, Any]:
        """What it remembers, as plain JSON values."""
        return {"looks": [dataclasses.asdict(look) for look in self._looks], "said": sorted(self._said)}

    def look(
        self,
        model: ConcertoLAQ,
        losses: dict[str, float],
        held_out: dict[str, float],
        *,
        progress: float,
    ) -> dict[str, str]:
        """New warnings, by kind; call it after a step, while its gradients are still there.

        Args:
            losses: of the last training step.
            held_out: of ``evaluate_held_out``.
        """
        size, positions = model.config.codebook_size, range(model.config.code_seq_len)
        codes = model.quantizer.lookup(torch.arange(size, device=model.feature_mean.device)[None])[0]
        self._looks.append(
            Health(
                progress=progress,
                codebook_size=size,
                num_pairs=int(held_out["num_pairs"]),
                position_perplexity=[held_out[f"perplexity.{place}"] for place in positions],
                copy_ratio=held_out["copy_ratio_hard"],
                hard_code_gap=losses["hard_code_loss"] / max(losses["prediction_loss"], 1e-12) - 1,
                num_duplicates=count_duplicates(codes),
                identical_token_fraction=held_out["identical_token_fraction"],
                idle_parameters=idle_parameters(model),
            )
        )
        new = {kind: text for kind, text in find_warnings(self._looks).items() if kind not in self._said}
        self._said |= set(new)
        return new
