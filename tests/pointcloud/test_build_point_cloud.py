"""Point maps to clouds on one shared grid."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from laq_model.pointcloud.build import build_point_cloud

HALF_M, VOXEL_M = 1.0, 0.25


def maps(scenes: int = 2, views: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (scenes, views, 6, 7)
    return {
        "point_map_m": 0.7 * torch.randn(*shape, 3, generator=generator),
        "color": torch.rand(*shape, 3, generator=generator),
        "normal": torch.randn(*shape, 3, generator=generator),
        "is_seen_through": torch.rand(*shape, generator=generator) < 0.3,
        "displacement_m": torch.randn(*shape, 3, generator=generator),
        "is_kept": torch.rand(*shape, generator=generator) < 0.8,
    }


def build(views: dict[str, torch.Tensor], max_points: int = 1000, **kwargs):
    point_map_m = views["point_map_m"]
    rest = {name: value for name, value in views.items() if name != "point_map_m"}
    return build_point_cloud(
        point_map_m, **rest, half_extent_m=HALF_M, voxel_size_m=VOXEL_M, max_points=max_points, **kwargs
    )


def test_convention_clouds_are_scene_by_scene_and_pixels_row_by_row():
    views = maps()
    cloud, _ = build(views)
    start = 0
    for number, end in enumerate(cloud.offset.tolist()):
        view = (number // 2, number % 2)
        pixel = cloud.pixel_index[start:end]
        row, column = pixel // 7, pixel % 7
        assert views["is_kept"][view][row, column].all()
        assert torch.equal(cloud.coord_m[start:end], views["point_map_m"][view][row, column])
        assert torch.equal(cloud.is_seen_through[start:end], views["is_seen_through"][view][row, column])
        assert torch.equal(cloud.displacement_m[start:end], views["displacement_m"][view][row, column])
        assert torch.equal(cloud.color[start:end], views["color"][view][row, column])
        assert torch.equal(cloud.normal[start:end], views["normal"][view][row, column])
        start = end
    assert start == len(cloud.coord_m) > 40


def test_convention_voxels_are_counted_from_the_corner_of_the_box():
    points = torch.tensor([[-1.0, -0.76, -0.74], [0.99, 0.0, 0.999999]]).view(1, 1, 1, 2, 3)
    same = torch.zeros_like(points)
    _, grid_coord = build(
        {
            "point_map_m": points,
            "color": same,
            "normal": same,
            "is_seen_through": torch.zeros(same.shape[:-1], dtype=torch.bool),
            "displacement_m": same,
            "is_kept": torch.ones(1, 1, 1, 2, dtype=torch.bool),
        }
    )
    assert grid_coord.tolist() == [[0, 0, 1], [7, 4, 7]]


def test_convention_the_box_is_open_at_its_far_faces():
    points = torch.zeros(1, 1, 1, 6, 3)
    points[0, 0, 0, :, 0] = torch.tensor([-1.0001, -1.0, 0.0, 0.9999999, 1.0, 7.0])
    same = torch.zeros_like(points)
    everywhere = torch.ones(1, 1, 1, 6, dtype=torch.bool)
    cloud, _ = build(
        {
            "point_map_m": points,
            "color": same,
            "normal": same,
            "is_seen_through": ~everywhere,
            "displacement_m": same,
            "is_kept": everywhere,
        }
    )
    assert cloud.pixel_index.tolist() == [1, 2, 3]


def test_a_last_voxel_that_reaches_beyond_the_box_holds_nothing_from_there():
    points = torch.tensor([[0.95, 0.0, 0.0], [1.05, 0.5, 0.0]]).view(1, 1, 1, 2, 3)
    cloud, _ = build_point_cloud(
        points,
        color=points,
        normal=points,
        is_seen_through=torch.zeros(1, 1, 1, 2, dtype=torch.bool),
        displacement_m=points,
        is_kept=torch.ones(1, 1, 1, 2, dtype=torch.bool),
        half_extent_m=1.0,
        voxel_size_m=0.3,  # seven voxels reach from −1 to 1.1
        max_points=5,
    )
    assert cloud.pixel_index.tolist() == [0]


def test_a_float64_point_that_rounds_onto_the_far_face_is_outside():
    points = torch.zeros(1, 1, 1, 2, 3, dtype=torch.float64)
    points[0, 0, 0, 0, 0] = 1 - 2**-53  # plus 1 it rounds to 2, the first voxel beyond the last
    same = torch.zeros_like(points)
    everywhere = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    cloud, _ = build(
        {
            "point_map_m": points,
            "color": same,
            "normal": same,
            "is_seen_through": ~everywhere,
            "displacement_m": same,
            "is_kept": everywhere,
        }
    )
    assert cloud.pixel_index.tolist() == [1]


def test_what_both_views_see_is_kept_in_both_or_in_none():
    views = maps(scenes=1)
    views["point_map_m"][0, 1] = views["point_map_m"][0, 0]
    views["is_kept"][0, 0] = True
    views["is_kept"][0, 1, :3] = False  # the second view sees half of it
    views["is_kept"][0, 1, 3:] = True
    cloud, grid_coord = build(views, 12)
    _, seen_by_second = build({name: value[:, 1:] for name, value in views.items()})

    def cells(rows: torch.Tensor) -> set[tuple[int, ...]]:
        return {tuple(cell) for cell in rows.tolist()}

    first, second = cells(grid_coord[: cloud.offset[0]]), cells(grid_coord[cloud.offset[0] :])
    assert len(first) == 12
    assert second == first & cells(seen_by_second)
    assert 0 < len(second) < 12


@pytest.mark.parametrize(("half", "voxel"), [(1.0, 0.02), (0.3, 0.02), (0.7, 0.03), (1.1, 0.1)])
def test_voxels_stay_below_the_number_that_the_network_is_told(half, voxel):
    points = torch.full((1, 1, 1, 1, 3), half)
    points = torch.nextafter(points, torch.zeros(()))
    cloud, grid_coord = build_point_cloud(
        points,
        color=points,
        normal=points,
        is_seen_through=torch.zeros(1, 1, 1, 1, dtype=torch.bool),
        displacement_m=points,
        is_kept=torch.ones(1, 1, 1, 1, dtype=torch.bool),
        half_extent_m=half,
        voxel_size_m=voxel,
        max_points=5,
    )
    assert len(cloud.coord_m) == 1
    assert 0 <= int(grid_coord.max()) <= -(-2 * half // voxel) - 1


def test_rows_are_ordered_by_cloud_and_voxel_and_no_voxel_comes_twice():
    cloud, grid_coord = build(maps())
    counts = torch.diff(cloud.offset, prepend=torch.zeros(1, dtype=torch.long))
    number = torch.repeat_interleave(torch.arange(4), counts)
    rows = [(n, *cell) for n, cell in zip(number.tolist(), grid_coord.tolist(), strict=True)]
    assert rows == sorted(set(rows))


@pytest.mark.parametrize("method", ["voxel", "random", "farthest"])
def test_equal_views_give_equal_bits(method):
    views = {name: value[:, :1].expand(-1, 2, *value.shape[2:]).clone() for name, value in maps().items()}
    cloud, grid_coord = build(views, 20, method=method, generator=torch.Generator().manual_seed(3))
    for scene in range(2):
        start = 0 if scene == 0 else int(cloud.offset[1])
        middle, end = cloud.offset[2 * scene : 2 * scene + 2].tolist()
        assert middle - start == end - middle > 5
        for values in (cloud.coord_m, cloud.color, cloud.normal, cloud.pixel_index, grid_coord):
            assert torch.equal(values[start:middle], values[middle:end])


def test_a_view_without_points_is_an_empty_cloud():
    views = maps(scenes=1, views=3)
    views["is_kept"][0, 1] = False
    offset = build(views)[0].offset
    assert offset[0] == offset[1] < offset[2]


def test_no_view_with_points_gives_empty_clouds():
    views = maps()
    views["is_kept"][:] = False
    cloud, grid_coord = build(views)
    assert cloud.offset.tolist() == [0, 0, 0, 0]
    assert grid_coord.shape == (0, 3)


@pytest.mark.parametrize("method", ["voxel", "random", "farthest"])
def test_batch_neighbours_change_no_bit(method):
    views = maps(scenes=3)
    together, grid_together = build(views, 15, method=method, generator=torch.Generator().manual_seed(3))
    alone, grid_alone = build(
        {name: value[1:2] for name, value in views.items()},
        15,
        method=method,
        generator=torch.Generator().manual_seed(3),
    )
    rows = slice(int(together.offset[1]), int(together.offset[3]))
    assert torch.equal(together.coord_m[rows], alone.coord_m)
    assert torch.equal(together.pixel_index[rows], alone.pixel_index)
    assert torch.equal(grid_together[rows], grid_alone)


def test_points_not_kept_may_be_anything():
    views = maps()
    before, _ = build(views)
    views["point_map_m"][~views["is_kept"]] = torch.nan
    after, _ = build(views)
    assert_close(after.coord_m, before.coord_m, rtol=0.0, atol=0.0)
