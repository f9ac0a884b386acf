"""Keep what was computed: tables by their arguments, and what follows from a parameter until it changes.

Frozen weights are used thousands of times; what depends on them and on the image size alone is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import TypeVar

import torch
from torch import Tensor

Tables = TypeVar("Tables", bound=tuple[Tensor, ...])


def kept_by_arguments(compute: Callable[..., Tables]) -> Callable[..., Tables]:
    """Keep the tables of the last 64 sets of arguments; in a compiled graph they are constants."""

    @lru_cache(maxsize=64)
    def computed(*arguments: Hashable) -> Tables:
        with torch.inference_mode(False), torch.no_grad():  # a kept tensor must be fit for training, too
            return compute(*arguments)

    @torch.compiler.assume_constant_result
    @wraps(compute)
    def looked_up(*arguments: Hashable) -> Tables:
        return computed(*arguments)

    return looked_up


class KeptTensors:
    """Tensors derived from one parameter, by key. They are no state: not saved or copied with a module."""

    def __init__(self) -> None:
        self._origin: Tensor | None = None  # shares the parameter's memory, so its address stays taken
        self._version = -1
        self._kept: dict[Hashable, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> KeptTensors:
        return KeptTensors()

    def __reduce__(self) -> tuple[type[KeptTensors], tuple[()]]:
        return KeptTensors, ()

    def get(self, parameter: Tensor, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives for this parameter and key; anew where a gradient may be asked for."""
        trains = torch.is_grad_enabled() and parameter.requires_grad
        if trains or torch.compiler.is_compiling() or parameter.is_inference():
            return compute()
        if not self._is_of(parameter):
            self._origin, self._version, self._kept = parameter.detach(), parameter._version, {}
        if key not in self._kept:
            # An inference tensor could not take part in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept[key] = compute()
        return self._kept[key]

    def _is_of(self, parameter: Tensor) -> bool:
        origin = self._origin
        return (
            origin is not None
            and self._version == parameter._version
            and (origin.device, origin.dtype, origin.data_ptr())
            == (parameter.device, parameter.dtype, parameter.data_ptr())
        )
