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

    Raises:
        WeightsError: a key is missing or unexpected, or a shape differs.
    """
    own = {key: tensor for key, tensor in tensors.items() if not key.startswith(DROPPED_HEADS)}
    load_strict(network, own, source="VGGT weights")
    if any(parameter.is_meta for parameter in network.parameters()):
        network.load_state_dict(own, assign=True)
