"""Load weights under the key names of the published checkpoints, which are the network's own names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..weights import load_strict
from .model import PointTransformerV3


def load_official_weights(network: PointTransformerV3, tensors: Mapping[str, Tensor]) -> None:
    """Copy every tensor into ``network``, or change nothing and raise.

    Raises:
        WeightsError: a key is missing or unexpected, or a shape differs.
    """
    load_strict(network, tensors, source="Concerto weights")
