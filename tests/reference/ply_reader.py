"""A PLY reader of its own: it believes the header and nothing else."""

import struct

SIZES = {"float": ("f", 4), "uchar": ("B", 1), "double": ("d", 8), "int": ("i", 4)}


def read_ply(path):
    """Comments, and one dictionary for each vertex."""
    content = path.read_bytes()
    header, rows = content.split(b"\nend_header\n", maxsplit=1)
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    (num_vertices,) = [int(line.split()[2]) for line in lines if line.startswith("element vertex")]
    pattern = "<" + "".join(SIZES[kind][0] for kind, _ in properties)
    assert len(rows) == num_vertices * struct.calcsize(pattern)
    names = [name for _, name in properties]
    vertices = [dict(zip(names, values, strict=True)) for values in struct.iter_unpack(pattern, rows)]
    return [line[len("comment ") :] for line in lines if line.startswith("comment")], vertices
