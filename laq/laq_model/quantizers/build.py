"""The schemes by name."""

from __future__ import annotations

import importlib
from typing import Literal

from ..errors import ConfigError
from .protocol import Quantizer

Scheme = Literal["nsvq", "fsq", "ema"]

_CLASS = {"nsvq": "NSVQ", "fsq": "FSQ", "ema": "EMAVQ"}  # in the file of the scheme's name


def build_quantizer(scheme: Scheme, *, codebook_size: int, dim: int, num_positions: int) -> Quantizer:
    """The bottleneck of this name; its codebook is shared by all token positions.

    Raises:
        ConfigError: a codebook size that the scheme cannot have, or a package that is not installed.
    """
    try:
        module = importlib.import_module(f".{scheme}", __package__)  # late: two of them need the extra [vq]
    except ImportError as error:
        raise ConfigError(
            f"quantizer {scheme!r} needs the package vector-quantize-pytorch ({error}); "
            "pip install 'concerto-laq[vq]'"
        ) from error
    build = getattr(module, _CLASS[scheme])
    return build(codebook_size=codebook_size, dim=dim, num_positions=num_positions)
