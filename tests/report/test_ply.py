"""PLY files, byte by byte and through a reader that knows only the format."""

import struct

import pytest
import torch

from laq_model.errors import GeometryError, RunError
from laq_model.report.ply import write_ply
from reference.ply_reader import read_ply


def test_convention_bytes_of_one_point(tmp_path):
    write_ply(
        tmp_path / "one.ply",
        coord=torch.tensor([[1.0, -2.0, 0.5]]),
        normal=torch.tensor([[0.0, 0.0, 1.0]]),
        color=torch.tensor([[1.0, 0.0, 0.5]]),
        comments=["unit: m"],
    )
    header = (
        b"ply\nformat binary_little_endian 1.0\ncomment unit: m\nelement vertex 1\n"
        b"property float x\nproperty float y\nproperty float z\n"
        b"property float nx\nproperty float ny\nproperty float nz\n"
        b"property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    # 0.5 · 255 = 127.5 goes to the even 128.
    row = struct.pack("<6f3B", 1.0, -2.0, 0.5, 0.0, 0.0, 1.0, 255, 0, 128)
    assert (tmp_path / "one.ply").read_bytes() == header + row


def test_an_independent_reader_gets_every_point_back(tmp_path):
    generator = torch.Generator().manual_seed(0)
    coord, normal = torch.randn(50, 3, generator=generator), torch.randn(50, 3, generator=generator)
    levels = torch.randint(0, 256, (50, 3), generator=generator)
    write_ply(tmp_path / "cloud.ply", coord=coord, normal=normal, color=levels / 255)
    _, vertices = read_ply(tmp_path / "cloud.ply")
    assert [[v["x"], v["y"], v["z"]] for v in vertices] == coord.tolist()
    assert [[v["nx"], v["ny"], v["nz"]] for v in vertices] == normal.tolist()
    assert [[v["red"], v["green"], v["blue"]] for v in vertices] == levels.tolist()


def test_a_cloud_without_points_is_a_valid_file(tmp_path):
    nothing = torch.zeros(0, 3)
    write_ply(tmp_path / "empty.ply", coord=nothing, normal=nothing, color=nothing)
    assert read_ply(tmp_path / "empty.ply") == ([], [])


def test_colours_outside_the_range_are_clipped_not_wrapped(tmp_path):
    write_ply(
        tmp_path / "cloud.ply",
        coord=torch.zeros(1, 3),
        normal=torch.zeros(1, 3),
        color=torch.tensor([[1.01, -0.2, 0.0]]),
    )
    _, [vertex] = read_ply(tmp_path / "cloud.ply")
    assert (vertex["red"], vertex["green"]) == (255, 0)


def test_comments_cannot_break_the_header(tmp_path):
    nothing = torch.zeros(0, 3)
    write_ply(
        tmp_path / "c.ply",
        coord=nothing,
        normal=nothing,
        color=nothing,
        comments=["a\nend_header\nb", "Straße"],
    )
    comments, vertices = read_ply(tmp_path / "c.ply")
    assert comments == ["a end_header b", "Stra\\xdfe"]
    assert vertices == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_that_are_not_finite_are_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "cloud.ply"
    path.write_bytes(b"old")
    zeros = torch.zeros(2, 3)
    with pytest.raises(GeometryError, match=r"a cloud for cloud\.ply has values that are not finite"):
        write_ply(path, coord=torch.tensor([[0.0, 0, 0], [0, value, 0]]), normal=zeros, color=zeros)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    nothing = torch.zeros(0, 3)
    with pytest.raises(RunError, match=r"cannot write .*cloud\.ply \(.+\); choose another --output"):
        write_ply(tmp_path / "file" / "cloud.ply", coord=nothing, normal=nothing, color=nothing)
