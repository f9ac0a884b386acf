"""Evaluation on held-out pairs while training, always with the hard codes that a label would contain."""

from __future__ import annotations

import torch

from ..concerto_laq import ConcertoLAQ
from ..metrics.codebook import code_usage
from ..metrics.health import identical_token_fraction
from .pair_source import PairSource, spread_indices


@torch.no_grad()
def evaluate_held_out(
    model: ConcertoLAQ, source: PairSource, *, limit: int, batch_size: int
) -> dict[str, float]:
    """Copy ratio and use of the codes over at most ``limit`` held-out pairs, evenly spread.

    ``perplexity`` is of all token positions together, ``perplexity.0`` and so on of each.
    """
    was_training = model.training
    model.eval()
    indices = list(spread_indices(source.num_held_out, limit))
    error = copy_error = 0.0
    codes = []
    for start in range(0, len(indices), batch_size):
        pairs = source.held_out_batch(indices[start : start + batch_size])
        out = model(pairs)
        error += float(out.hard_code_loss) * len(pairs.feat)
        copy_error += float(out.copy_loss) * len(pairs.feat)
        codes.append(out.code_index)
    model.train(was_training)
    all_codes = torch.cat(codes)
    usage = code_usage(all_codes, codebook_size=model.config.codebook_size)
    return {
        "copy_ratio_hard": error / max(copy_error, 1e-12),
        "codes_used_fraction": usage.used_fraction,
        "perplexity": usage.perplexity,
        **{f"perplexity.{place}": value for place, value in enumerate(usage.position_perplexity)},
        "identical_token_fraction": identical_token_fraction(all_codes),
        "num_pairs": float(len(all_codes)),
    }
