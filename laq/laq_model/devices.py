"""Where tensors are computed."""

from __future__ import annotations

import torch


def chosen_device(name: str) -> torch.device:
    """The device that a ``--device`` flag asks for; empty: the best there is in this process."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
