"""How well the future is predicted, against not predicting at all."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean_per_pair(
    value: Float[Tensor, "pairs places"], is_counted: Bool[Tensor, "pairs places"]
) -> Float[Tensor, " pairs"]:
    """Mean over the counted places of each pair; zero for a pair that has none."""
    counted = is_counted.to(value.dtype)
    return (value * counted).sum(-1) / counted.sum(-1).clamp(min=1)


def copy_ratio(error: Float[Tensor, " pairs"], copy_error: Float[Tensor, " pairs"]) -> float:
    """Error of the prediction / error of copying the current frame, both summed over pairs.

    1 is no better than copying, 0 is perfect. Sums come first: still pairs would rule a mean of ratios.

    Raises:
        ValueError: nothing changes in any pair, so copying is perfect and the ratio has no meaning.
    """
    total = float(copy_error.double().sum())
    if total <= 0:
        raise ValueError("copying has no error: none of these pairs changes, so the copy ratio is undefined")
    return float(error.double().sum()) / total
