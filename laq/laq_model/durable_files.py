"""Files that are whole or absent after any interruption, and folders that have one writer.

Everything is written under a temporary name, flushed to the disk, and renamed: a process that is killed, or a
disk that is full, leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import RunError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TEMPORARY_SUFFIX = ".tmp"
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; text is UTF-8 with Unix line ends, whatever the locale.

    Raises:
        OSError: the disk is full or cannot be written; the old file is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _flush_names(path.parent)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder to fill; it becomes ``target`` in one step when the block ends without an error.

    A ``target`` that is there already is replaced. After an error nothing is left of the new one.
    """
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())  # a rename must not overtake the bytes that it names
        if target.exists():
            remove_folder(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush_names(target.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a kill in the middle never leaves a part of it under its own name."""
    doomed = folder.with_name(folder.name + ".old" + TEMPORARY_SUFFIX)
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(folder: Path) -> None:
    """Delete what an interrupted writer left in this folder; call it only while holding its lock."""
    for leftover in folder.glob("*" + TEMPORARY_SUFFIX):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


@contextmanager
def folder_lock(
    folder: Path, *, name: str = ".lock", is_shared: bool = False, is_patient: bool = False
) -> Iterator[None]:
    """Keep other processes from writing here; the system lets go of the lock however this process ends.

    Args:
        is_shared: others may hold the lock too, but none alone.
        is_patient: wait for the lock instead of giving up.

    Raises:
        RunError: another process writes into this folder.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+b") as file:
        try:
            _lock(file, is_shared=is_shared, is_patient=is_patient)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise RunError(
                    f"another process is writing into {folder} ({_owner(file)}); wait for it, stop it, "
                    "or choose another folder"
                ) from error
            print(
                f"{folder} lies on a disk without file locks: see to it that only one process writes there",
                file=sys.stderr,
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}".encode())
        file.flush()
        yield


def _lock(file: IO[bytes], *, is_shared: bool, is_patient: bool) -> None:
    if sys.platform == "win32":  # which has no shared locks: each process locks a byte of its own
        file.seek(os.getpid() if is_shared else 0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if is_patient else msvcrt.LK_NBLCK, 1)
    else:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if is_patient else kind | fcntl.LOCK_NB)


def _owner(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace") or "unknown process"


def _flush_names(folder: Path) -> None:
    """Make renames inside this folder survive a power cut, where the system can do that."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network disks have no such call
            raise
    finally:
        os.close(handle)
