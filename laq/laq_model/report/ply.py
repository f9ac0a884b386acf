"""Point clouds as binary PLY, which MeshLab, CloudCompare, Blender and Open3D read.

A row is x y z (float32), nx ny nz (float32), red green blue (0 to 255): 27 bytes, little-endian, no padding.

Source: G. Turk, The PLY Polygon File Format, 1994 (binary: one element after the other, in header order).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..errors import GeometryError
from .output_file import write_file

_ROW = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    + [(name, "u1") for name in ("red", "green", "blue")]
)
_PLY_TYPE = {"<f4": "float", "|u1": "uchar"}


def write_ply(
    path: Path,
    *,
    coord: Float[Tensor, "points 3"],
    normal: Float[Tensor, "points 3"],
    color: Float[Tensor, "points 3"],
    comments: Sequence[str] = (),
) -> None:
    """Write one cloud; a cloud without points is a valid file.

    Args:
        path: replaced in one step.
        coord: any unit; say which in ``comments``.
        normal: unit vectors, or zero.
        color: RGB in [0, 1]; values outside are clipped.
        comments: header lines; what is not ASCII is escaped.

    Raises:
        GeometryError: a coordinate or normal is not finite.
        RunError: the file cannot be written.
    """
    rows = np.empty(len(coord), _ROW)
    for names, values in (("xyz", coord), (("nx", "ny", "nz"), normal)):
        array = values.detach().cpu().numpy()
        if not np.isfinite(array).all():
            raise GeometryError(f"a cloud for {path.name} has values that are not finite; filter it first")
        for name, column in zip(names, array.T, strict=True):
            rows[name] = column
    levels = (color.detach().cpu().clamp(0, 1) * 255).round().numpy()
    for name, column in zip(("red", "green", "blue"), levels.T, strict=True):
        rows[name] = column
    write_file(path, _header(len(rows), comments) + rows.tobytes())


def _header(num_points: int, comments: Sequence[str]) -> bytes:
    properties = [f"property {_PLY_TYPE[_ROW[name].str]} {name}" for name in _ROW.names or ()]
    notes = [f"comment {' '.join(comment.split())}" for comment in comments]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *notes,
        f"element vertex {num_points}",
        *properties,
        "end_header",
    ]
    return ("\n".join(lines) + "\n").encode("ascii", "backslashreplace")
