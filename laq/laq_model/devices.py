"""Where tensors are computed, and in what."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from .errors import ConfigError

log = logging.getLogger(__name__)

_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 twice, ARM


def chosen_device(name: str) -> torch.device:
    """The device that a ``--device`` flag asks for; empty: the best there is in this process.

    Raises:
        ConfigError: there is no such device, or not on this machine.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ConfigError(f"device must be cpu, cuda or another that torch knows, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device is {name}, but this machine has no CUDA device (or torch was built without)"
        )
    return device


def cpu_has_bfloat16() -> bool | None:
    """Whether this processor multiplies in bfloat16 by its own instructions; None where it does not say.

    Without them bfloat16 is many times slower than float32, not faster.
    """
    try:
        words = _CPU_INFO.read_text().split()
    except OSError:
        return None
    return not _BFLOAT16_FLAGS.isdisjoint(words)


def warn_of_slow_bfloat16(device: torch.device, *, instead: str) -> None:
    """Say that bfloat16 crawls on this device, if it does, and which flag is faster."""
    if device.type == "cpu" and cpu_has_bfloat16() is False:
        log.warning("this processor has no bfloat16 instructions: %s is many times faster", instead)
