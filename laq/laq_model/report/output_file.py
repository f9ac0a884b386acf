"""A place that cannot be written is an error of one line; a file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ..durable_files import write_atomically
from ..errors import RunError


def make_output_folder(folder: Path) -> None:
    """Make the folder and prove that it can be written, before any work is done for it.

    Raises:
        RunError: it is a file, or may not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"cannot write to {folder} ({error.strerror or error}); choose another --output"
        ) from error


def write_file(path: Path, content: str | bytes) -> None:
    """Replace ``path`` in one step; what stood there before survives a failure.

    Raises:
        RunError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({error.strerror or error}); choose another --output, or make room"
        ) from error
