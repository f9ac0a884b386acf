"""Statistics of one feature as ``meta/stats.json`` has them, gathered piece by piece."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)


class FeatureStatistics:
    """min, max, mean, std (of the population), count, and the quantiles q01 to q99 of every dimension.

    Args:
        quantile_every: quantiles are of every n-th row only, so that not all of them are kept in memory.
    """

    def __init__(self, *, quantile_every: int = 1):
        self._every = quantile_every
        self._count = 0
        self._kept: list[np.ndarray] = []
        self._min = self._max = self._mean = self._sum_of_squares = np.zeros(0)  # squares of deviations

    def add(self, values: Num[np.ndarray, "rows dims"]) -> None:
        """Take in more rows."""
        if not len(values):
            return
        own = values.astype(np.float64)
        mean, count = own.mean(0), self._count + len(own)
        squares = ((own - mean) ** 2).sum(0)
        if not self._count:
            self._min, self._max, self._mean, self._sum_of_squares = own.min(0), own.max(0), mean, squares
        else:
            # Two groups as one (Chan, Golub & LeVeque 1979).
            apart = mean - self._mean
            self._sum_of_squares = (
                self._sum_of_squares + squares + apart**2 * (self._count * len(own) / count)
            )
            self._mean = self._mean + apart * (len(own) / count)
            self._min, self._max = np.minimum(self._min, own.min(0)), np.maximum(self._max, own.max(0))
        self._kept.append(values[-self._count % self._every :: self._every].copy())
        self._count = count

    def as_json(self) -> dict[str, list[float]]:
        """All of them as lists; there must be a row."""
        kept = np.concatenate(self._kept)
        quantiles = {f"q{round(100 * share):02d}": np.quantile(kept, share, axis=0) for share in QUANTILES}
        found = {
            "min": self._min,
            "max": self._max,
            "mean": self._mean,
            "std": np.sqrt(self._sum_of_squares / self._count),
            **quantiles,
        }
        return {**{name: value.tolist() for name, value in found.items()}, "count": [self._count]}
