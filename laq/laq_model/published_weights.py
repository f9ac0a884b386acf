"""Where the weights of the two frozen networks come from: a file, the package, or the Hub.

Nothing is ever replaced: what cannot be had is an error that names the file and the ways to give it.
"""

from __future__ import annotations

import errno
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from .errors import WeightsError
from .weights import INDEX_SUFFIX, shard_names

EMBEDDED = "embedded"  # the small networks inside this package, see docs/embedded-networks.md
EMBEDDED_FILES = {"vggt": "vggt_tiny.safetensors", "concerto": "concerto_embedded.safetensors"}

# On the Hub, by preference. The shards of an index are fetched with it.
VGGT_FILES = ("model.safetensors", "model" + INDEX_SUFFIX, "model.pt")
VGGT_COMMERCIAL = "facebook/VGGT-1B-Commercial"
VGGT_COMMERCIAL_FILES = ("vggt_1B_commercial.pt",)
CONCERTO_REPOSITORY = "Pointcept/Concerto"
CONCERTO_MODELS = (
    "concerto_tiny",
    "concerto_small",
    "concerto_base",
    "concerto_large",
    "concerto_large_outdoor",
    "concerto_base_siglip",
    "concerto_base_origin",
)
REPOSITORY_PARTS = 2  # owner and name
ANSWER_TIMEOUT_S = 5  # a machine without network should hear of it in seconds
ABSENT = "the repository has no such file"

LICENCES = {
    "facebook/VGGT-1B": "VGGT-1B weights: non-commercial use only (facebook/VGGT-1B on the Hub)",
    VGGT_COMMERCIAL: "VGGT-1B-Commercial weights: VGGT License, commercial use allowed, gated on the Hub",
    CONCERTO_REPOSITORY: "Concerto weights: CC-BY-NC-4.0, non-commercial (Pointcept/Concerto on the Hub)",
}
LICENCE_OF_A_FILE = {
    "vggt": "VGGT-1B is for non-commercial use only, VGGT-1B-Commercial under the VGGT License",
    "concerto": "Concerto is CC-BY-NC-4.0, non-commercial",
}


def find_vggt_weights(model: str, *, file: str = "") -> Path:
    """The VGGT weights file: ``file`` if given, the embedded one, or that of the Hub repository ``model``.

    Raises:
        WeightsError: the file is not there and cannot be fetched; the message names it and says what to do.
    """
    if file:
        return _local(file, flag="--vggt_weights")
    if model == EMBEDDED:
        return embedded_file(EMBEDDED_FILES["vggt"])
    if len(model.split("/")) < REPOSITORY_PARTS:
        raise WeightsError(
            f"no VGGT model is called {model!r}; give a Hub repository such as facebook/VGGT-1B, "
            f"{EMBEDDED}, or pass --vggt_weights FILE"
        )
    return _from_hub(*_split(model, _vggt_files(model)), flag="--vggt_weights")


def has_vggt_weights(model: str, *, file: str = "") -> bool:
    """Whether ``find_vggt_weights`` would find them on this machine, without fetching anything."""
    if file:
        return Path(file).expanduser().is_file()
    if model == EMBEDDED or len(model.split("/")) < REPOSITORY_PARTS:
        return model == EMBEDDED
    return bool(cached_files(*_split(model, _vggt_files(model))))


def find_concerto_weights(model: str, *, file: str = "") -> Path:
    """The Concerto weights file: ``file`` if given, the embedded one, or ``<model>.pth`` on the Hub.

    ``model`` may also name a file of another Hub repository, as ``owner/name/file.pth``.

    Raises:
        WeightsError: the file is not there and cannot be fetched; the message names it and says what to do.
    """
    if file:
        return _local(file, flag="--concerto_weights")
    if model == EMBEDDED:
        return embedded_file(EMBEDDED_FILES["concerto"])
    if model in CONCERTO_MODELS:
        return _from_hub(CONCERTO_REPOSITORY, (f"{model}.pth",), flag="--concerto_weights")
    if len(model.split("/")) > REPOSITORY_PARTS:
        return _from_hub(*_split(model, ()), flag="--concerto_weights")
    raise WeightsError(
        f"no Concerto model is called {model!r}; choose from {', '.join(CONCERTO_MODELS)}, {EMBEDDED}, "
        "name a file on the Hub (owner/name/file.pth), or pass --concerto_weights FILE"
    )


def embedded_file(name: str) -> Path:
    """A file that ships inside the package (weights, demo pack)."""
    path = Path(str(importlib.resources.files(__package__))) / "embedded" / name
    if not path.exists():
        raise WeightsError(f"this installation lacks its embedded file {name}; install concerto-laq again")
    return path


def cached_files(repository: str, names: Sequence[str]) -> list[Path]:
    """The first of ``names`` that is whole in the Hub's cache, an index with its shards; else none.

    Nothing is asked of the Hub.
    """
    for name in names:
        found = _cached(repository, name)
        if found is None:
            continue
        shards = sorted(set(shard_names(found).values())) if name.endswith(INDEX_SUFFIX) else []
        files = [found, *(_cached(repository, shard) for shard in shards)]
        if None not in files:
            return [file for file in files if file is not None]
    return []


def licence_of(model: str, *, network: str = "vggt", file: str = "", stated: str = "") -> str:
    """One line: the licence under which weights may be used.

    Args:
        model: the name that stands for them where no file was given.
        network: ``vggt`` or ``concerto``.
        file: the file that was given, if one was.
        stated: what that file says of its own licence.
    """
    if file:
        known = stated or f"not stated in the file; {LICENCE_OF_A_FILE[network]}"
        return f"weights of {Path(file).name}: {known}"
    if model == EMBEDDED:
        return f"embedded {network} network: Apache-2.0, trained by this project on rendered scenes"
    if model in CONCERTO_MODELS:
        return LICENCES[CONCERTO_REPOSITORY]
    if model in LICENCES:
        return LICENCES[model]
    return f"weights of {model}: see the licence on its page of the Hub"


def _vggt_files(model: str) -> Sequence[str]:
    return VGGT_COMMERCIAL_FILES if model == VGGT_COMMERCIAL else VGGT_FILES


def _split(model: str, names: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The repository, and the file if the name goes on after it."""
    parts = model.split("/")
    inside = "/".join(parts[REPOSITORY_PARTS:])
    return "/".join(parts[:REPOSITORY_PARTS]), (inside,) if inside else names


def _local(file: str, *, flag: str) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        hint = "that is a folder; name the file in it" if path.is_dir() else "there is no such file"
        raise WeightsError(f"{flag} {file}: {hint}")
    return path


def _from_hub(repository: str, names: Sequence[str], *, flag: str) -> Path:
    """The first of ``names`` that is in the cache or in the repository; a bar shows a download's progress."""
    for name in names:
        if _is_cached(repository, name):
            return _fetch(repository, name)
    for name in names:
        try:
            return _fetch(repository, name)
        except Exception as error:  # the client raises its own and its HTTP library's errors
            reason = _reason(error, repository)
            if reason != ABSENT or name == names[-1]:
                wanted = " or ".join(names) if reason == ABSENT else name
                raise WeightsError(
                    f"{wanted} of {repository} is not on this machine and could not be fetched: {reason}. "
                    "Three ways: fetch it where there is network access "
                    f"(`hf download {repository} {name}`), pass {flag} FILE, or use the embedded networks "
                    "with --preset tiny"
                ) from error
    raise AssertionError("a repository is asked for at least one file")


def _fetch(repository: str, name: str) -> Path:
    """A file of the Hub, from the cache if it is there; the shards of an index, too."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url  # noqa: PLC0415 (slow)

    is_cached = _is_cached(repository, name)
    if not is_cached:
        # Asked once: the download itself would try five times, half a minute on a machine without network.
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=ANSWER_TIMEOUT_S)
    path = Path(hf_hub_download(repository, name, local_files_only=is_cached))
    if name.endswith(INDEX_SUFFIX):
        for shard in sorted(set(shard_names(path).values())):
            _fetch(repository, shard)
    return path


def _is_cached(repository: str, name: str) -> bool:
    return _cached(repository, name) is not None


def _cached(repository: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 (slow to import)

    found = try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def _reason(error: Exception, repository: str) -> str:
    """Why a file could not be fetched, and what to do about it."""
    from huggingface_hub import errors  # noqa: PLC0415 (slow to import)

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repository} is gated; accept its terms on https://huggingface.co/{repository}, then log in "
            "with `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            f"the Hub has no {repository}, or it is private and your token may not read it (`hf auth login`)"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ABSENT
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids to ask the Hub"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk of the Hub's cache is full; set HF_HOME to a folder with more room"
    return f"the Hub does not answer ({_first_line(error)})"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__
