"""Evaluation on held-out pairs while training, always with the hard codes that a label would contain."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from ..concerto_laq import ConcertoLAQ
from ..metrics.codebook import code_usage
from ..metrics.health import identical_token_fraction
from .pair_source import PairSource, spread_indices
from .step import num_seeing


@torch.no_grad()
def evaluate_held_out(
    model: ConcertoLAQ, source: PairSource, accelerator: Accelerator, *, limit: int, batch_size: int
) -> dict[str, float]:
    """Copy ratio and use of the codes over at most ``limit`` held-out pairs, evenly spread.

    ``perplexity`` is of all token positions together, ``perplexity.0`` and so on of each. Each process takes
    its share of the pairs; all get the result.
    """
    was_training = model.training
    model.eval()
    indices = list(spread_indices(source.num_held_out, limit))
    own = indices[accelerator.process_index :: accelerator.num_processes]
    errors = torch.zeros(2, dtype=torch.float64)  # of the prediction, of copying
    codes: list[list[int]] = []
    for start in range(0, len(own), batch_size):
        pairs = source.tokens(source.load_held_out(own[start : start + batch_size]))
        out = model(pairs)
        errors += num_seeing(pairs) * torch.tensor([float(out.prediction_loss), float(out.copy_loss)])
        codes += out.code_index.tolist()
    model.train(was_training)
    error, copy_error = accelerator.reduce(errors.to(accelerator.device), "sum").tolist()
    all_codes = torch.tensor(gather_object(codes))
    usage = code_usage(all_codes, codebook_size=model.config.codebook_size)
    return {
        "copy_ratio_hard": error / max(copy_error, 1e-12),
        "codes_used_fraction": usage.used_fraction,
        "perplexity": usage.perplexity,
        **{f"perplexity.{place}": value for place, value in enumerate(usage.position_perplexity)},
        "identical_token_fraction": identical_token_fraction(all_codes),
        "num_pairs": float(len(all_codes)),
    }
