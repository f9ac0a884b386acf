"""One .npy file written row by row, without knowing how many rows will come, and read by position.

Reading asks the system for one range of bytes at a time. That is as fast as mapping the file (docs/scale.md),
and the pages do not count as this process's memory: a long run over a large store stays small.
"""

from __future__ import annotations

import math
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import DatasetError

HEADER_BYTES = 256  # room for any shape: the header is rewritten when the number of rows is known


class NpyWriter:
    """Appends rows of one dtype and shape; the file is a valid .npy once closed."""

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...]):
        self._dtype, self._row_shape = dtype, row_shape
        self._file = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))
        self.num_rows = 0
        self.crc32 = 0

    def append(self, rows: np.ndarray) -> None:
        """Write rows behind the others."""
        if rows.dtype != self._dtype or rows.shape[1:] != self._row_shape:
            raise ValueError(
                f"expected rows of {self._dtype} {self._row_shape}, got {rows.dtype} {rows.shape[1:]}"
            )
        content = np.ascontiguousarray(rows).tobytes()
        self._file.write(content)
        self.crc32 = zlib.crc32(content, self.crc32)
        self.num_rows += len(rows)

    def close(self) -> None:
        """Write the header."""
        self._file.seek(0)
        self._file.write(_header(self._dtype, (self.num_rows, *self._row_shape)))
        self._file.close()

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # nothing more may be written: the disk may be full
            self._file.close()


class NpyReader:
    """Rows of a file that ``NpyWriter`` made, read by number.

    Raises:
        DatasetError: the file is missing, or not of this dtype, shape or length.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], row_shape: tuple[int, ...], num_rows: int):
        self._path = path
        self._row_bytes = dtype.itemsize * math.prod(row_shape)
        self._turn = threading.Lock()
        try:
            self._file = path.open("rb", buffering=0)
            if self._file.read(HEADER_BYTES) != _header(dtype, (num_rows, *row_shape)):
                raise DatasetError(f"{path} does not hold {num_rows} rows of {dtype} {row_shape}")
        except OSError as error:
            raise DatasetError(f"{path} cannot be opened ({error.strerror})") from error

    def read_into(self, buffer: memoryview, *, row: int) -> None:
        """Fill the buffer, which has room for one row."""
        with self._turn:  # another thread must not seek in between
            self._file.seek(HEADER_BYTES + row * self._row_bytes)
            read = self._file.readinto(buffer)
        if read != len(buffer):
            raise DatasetError(f"{self._path} ends too early; run `concerto-laq store verify` on its store")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def checksum(path: Path) -> int:
    """CRC-32 of the rows of a file that ``NpyWriter`` made, as the writer counted it."""
    value = 0
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def file_bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Size of the whole file."""
    return HEADER_BYTES + dtype.itemsize * math.prod(shape)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Format version 1.0, padded to ``HEADER_BYTES`` (numpy.lib.format)."""
    text = repr(
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    ).encode("latin1")
    prefix = np.lib.format.magic(1, 0) + (HEADER_BYTES - 10).to_bytes(2, "little")
    return prefix + text.ljust(HEADER_BYTES - 11) + b"\n"
