"""Where the weights of the two frozen networks come from: a file, the package, or the Hub.

Nothing is ever replaced: what cannot be had is an error that names the file and the ways to give it.
"""

from __future__ import annotations

import importlib.resources
import os
from pathlib import Path

from .errors import WeightsError

EMBEDDED = "embedded"  # the small networks inside this package, see docs/embedded-networks.md

EMBEDDED_FILES = {"vggt": "vggt_tiny.safetensors", "concerto": "concerto_embedded.safetensors"}
CONCERTO_REPOSITORY = "Pointcept/Concerto"
CONCERTO_MODELS = ("concerto_tiny", "concerto_small", "concerto_base", "concerto_large")
LICENCES = {
    "facebook/VGGT-1B": "VGGT-1B weights: non-commercial use only (facebook/VGGT-1B on the Hub)",
    "facebook/VGGT-1B-Commercial": "VGGT-1B-Commercial weights: VGGT License, gated on the Hub",
    CONCERTO_REPOSITORY: "Concerto weights: CC-BY-NC-4.0 (Pointcept/Concerto on the Hub)",
    EMBEDDED: "embedded networks: Apache-2.0, trained by this project on rendered scenes",
}


def find_vggt_weights(model: str, *, file: str = "") -> Path:
    """The VGGT weights file: ``file`` if given, the embedded one, or the Hub repository ``model``.

    Raises:
        WeightsError: the file is not there and cannot be fetched; the message names it and says what to do.
    """
    if file:
        return _local(file, flag="--vggt_weights")
    if model == EMBEDDED:
        return embedded_file(EMBEDDED_FILES["vggt"])
    name = "vggt_1B_commercial.pt" if model.endswith("Commercial") else "model.safetensors"
    return _from_hub(model, name, flag="--vggt_weights")


def find_concerto_weights(model: str, *, file: str = "") -> Path:
    """The Concerto weights file: ``file`` if given, the embedded one, or ``<model>.pth`` on the Hub.

    Raises:
        WeightsError: the file is not there and cannot be fetched; the message names it and says what to do.
    """
    if file:
        return _local(file, flag="--concerto_weights")
    if model == EMBEDDED:
        return embedded_file(EMBEDDED_FILES["concerto"])
    if model not in CONCERTO_MODELS:
        raise WeightsError(
            f"no Concerto model is called {model!r}; choose from {', '.join(CONCERTO_MODELS)}, {EMBEDDED}, "
            "or pass --concerto_weights FILE"
        )
    return _from_hub(CONCERTO_REPOSITORY, f"{model}.pth", flag="--concerto_weights")


def embedded_file(name: str) -> Path:
    """A file that ships inside the package (weights, demo pack)."""
    path = Path(str(importlib.resources.files(__package__))) / "embedded" / name
    if not path.exists():
        raise WeightsError(f"this installation lacks its embedded file {name}; install concerto-laq again")
    return path


def licence_of(model: str) -> str:
    """One line: the licence under which the weights of ``model`` may be used."""
    return LICENCES[
        CONCERTO_REPOSITORY if model in CONCERTO_MODELS else model if model in LICENCES else EMBEDDED
    ]


def _local(file: str, *, flag: str) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise WeightsError(f"{flag} {file}: there is no such file")
    return path


def _from_hub(repository: str, name: str, *, flag: str) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415 (slow to import)

    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # A machine without network should hear of it in seconds, not after the client's retries.
        os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # the client raises its own and its HTTP library's errors
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{name} of {repository} is not on this machine and could not be fetched from the Hub ({reason}). "
            f"Three ways: fetch it where there is network access (`hf download {repository} {name}`; accept the "
            f"licence and log in first if it is gated), pass {flag} FILE, or use the embedded networks with "
            "--preset tiny"
        ) from error
