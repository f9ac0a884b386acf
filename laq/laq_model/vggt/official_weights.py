"""Load weights under the key names of the published files, which are the network's own names.

Files may hold the point and track heads, which are not part of this network, or lack them; tensors may be
of mixed types (a bfloat16 aggregator with float32 heads is in circulation).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..weights import load_strict
from .model import VGGT

DROPPED_HEADS = ("point_head.", "track_head.")


def load_official_weights(network: VGGT, tensors: Mapping[str, Tensor]) -> None:
    """Copy every tensor into ``network``, or change nothing and raise.

    A network on the meta device takes the tensors themselves, with device and type, and copies nothing.
    Others keep their own types: a float32 network takes bfloat16 tensors, and the other way about.

    Raises:
        WeightsError: a key is missing or unexpected, or a shape differs.
    """
    load_strict(network, tensors, source="VGGT weights", dropped_prefixes=DROPPED_HEADS)
