"""Points to cells, patches and whole views."""

from __future__ import annotations

import dataclasses
import math

import pointcloud_twins as twins
import pytest
import torch
from torch.testing import assert_close

from laq_model.errors import ConfigError
from laq_model.pointcloud.cell_pooling import CellTokens, pool_cells
from laq_model.pointcloud.patch_pooling import pool_globally, pool_patches
from laq_model.structures import GEOMETRY_CHANNELS, PointCloud


def make_cloud(*counts: int, seed: int = 0) -> tuple[torch.Tensor, PointCloud]:
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    cloud = PointCloud(
        coord_m=2 * torch.rand(total, 3, generator=generator) - 1,
        color=torch.rand(total, 3, generator=generator),
        normal=torch.randn(total, 3, generator=generator),
        is_seen_through=torch.rand(total, generator=generator) < 0.3,
        displacement_m=torch.randn(total, 3, generator=generator)
        * (torch.rand(total, 1, generator=generator) < 0.5),
        pixel_index=torch.randint(0, 12 * 10, (total,), generator=generator),
        offset=torch.tensor(counts).cumsum(0),
    )
    return torch.randn(total, 4, generator=generator), cloud


def pool(feat: torch.Tensor, cloud: PointCloud, *, views: int = 2, cell_size_m: float = 0.5) -> CellTokens:
    return pool_cells(feat, cloud, views=views, cell_size_m=cell_size_m, half_extent_m=1.0)


def rows_of(cloud: PointCloud, number: int) -> slice:
    return slice(0 if number == 0 else int(cloud.offset[number - 1]), int(cloud.offset[number]))


def take(feat: torch.Tensor, cloud: PointCloud, first: int, last: int) -> tuple[torch.Tensor, PointCloud]:
    """Clouds ``first`` to ``last`` alone."""
    start = rows_of(cloud, first).start
    rows = slice(start, int(cloud.offset[last]))
    offset = cloud.offset[first : last + 1] - start
    return feat[rows], PointCloud(
        cloud.coord_m[rows],
        cloud.color[rows],
        cloud.normal[rows],
        cloud.is_seen_through[rows],
        cloud.displacement_m[rows],
        cloud.pixel_index[rows],
        offset,
    )


def test_cells_equal_a_plain_loop():
    feat, cloud = make_cloud(60, 35, 0, 50, 20, 20)
    cells = pool(feat, cloud)
    for scene in range(3):
        views = []
        for view in range(2):
            rows = rows_of(cloud, 2 * scene + view)
            views.append(
                twins.pool_cells(
                    feat[rows],
                    cloud.coord_m[rows],
                    cloud.normal[rows],
                    cloud.color[rows],
                    cloud.is_seen_through[rows],
                    displacement=cloud.displacement_m[rows],
                    cell_size_m=0.5,
                    half_extent_m=1.0,
                )
            )
        places = sorted(views[0].keys() | views[1].keys())
        assert cells.is_valid[scene].sum() == len(places)
        assert cells.is_valid[scene, : len(places)].all()
        for slot, place in enumerate(places):
            centre = torch.tensor([-1 + 0.5 * (index + 0.5) for index in place])
            assert_close(cells.centre_m[scene, slot], centre, rtol=0.0, atol=0.0)
            for view in range(2):
                token = cells.feat[scene, view, slot]
                assert cells.is_occupied[scene, view, slot] == (place in views[view])
                assert_close(
                    token, views[view].get(place, torch.zeros(4 + GEOMETRY_CHANNELS)), rtol=1e-5, atol=1e-6
                )
        assert not cells.is_occupied[scene, :, len(places) :].any()
        assert cells.feat[scene, :, len(places) :].eq(0).all()


def test_convention_geometry_channels_are_occupancy_seen_through_displacement_place_normal_colour():
    cloud = PointCloud(
        coord_m=torch.tensor([[0.1, 0.25, 0.4], [0.1, 0.25, 0.3]]),
        color=torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        normal=torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        is_seen_through=torch.tensor([True, False]),
        displacement_m=torch.tensor([[0.02, 0.0, -0.04], [0.0, 0.0, 0.0]]),
        pixel_index=torch.tensor([0, 1]),
        offset=torch.tensor([2]),
    )
    cells = pool(torch.tensor([[3.0], [5.0]]), cloud, views=1)
    # The cell is [0, 0.5)³, its centre 0.25: mean (0.1, 0.25, 0.35) lies (−0.3, 0, 0.2) cells away.
    expected = [4.0, math.log(3) / math.log(17), 0.5]
    expected += [0.02, 0.0, -0.04]  # of the one point that has a displacement
    expected += [-0.3, 0.0, 0.2, 0.0, 0.5, 0.5, 0.5, 0.0, 0.5]
    assert_close(cells.feat[0, 0, 0], torch.tensor(expected))
    assert len(expected) == 1 + GEOMETRY_CHANNELS
    assert cells.centre_m[0, 0].tolist() == [0.25, 0.25, 0.25]


def test_convention_occupancy_is_full_at_sixteen_points():
    feat, cloud = make_cloud(16, 40)
    squeezed = dataclasses.replace(cloud, coord_m=cloud.coord_m * 0.01 + 0.2)
    occupancy = pool(feat, squeezed).feat[0, :, 0, -GEOMETRY_CHANNELS]
    assert occupancy.tolist() == [1.0, 1.0]


def test_equal_views_differ_by_exactly_zero():
    feat, cloud = make_cloud(80)
    twice = PointCloud(
        coord_m=cloud.coord_m.repeat(2, 1),
        color=cloud.color.repeat(2, 1),
        normal=cloud.normal.repeat(2, 1),
        is_seen_through=cloud.is_seen_through.repeat(2),
        displacement_m=cloud.displacement_m.repeat(2, 1),
        pixel_index=cloud.pixel_index.repeat(2),
        offset=torch.tensor([80, 160]),
    )
    for cells in (
        pool(feat.repeat(2, 1), twice),
        pool_patches(feat.repeat(2, 1), twice, views=2, height=12, width=10, patch_size=4),
        pool_globally(feat.repeat(2, 1), twice, views=2),
    ):
        assert torch.equal(cells.feat[:, 0], cells.feat[:, 1])
        assert torch.equal(cells.is_occupied[:, 0], cells.is_occupied[:, 1])
        assert cells.feat.abs().sum() > 0


def test_batch_neighbours_change_no_bit():
    feat, cloud = make_cloud(60, 35, 70, 50, 20, 20)
    together, alone = pool(feat, cloud), pool(*take(feat, cloud, 2, 3))
    num_cells = alone.is_valid.shape[1]
    assert torch.equal(together.feat[1, :, :num_cells], alone.feat[0])
    assert torch.equal(together.centre_m[1, :num_cells], alone.centre_m[0])
    assert torch.equal(together.is_valid[1, :num_cells], alone.is_valid[0])
    patches = [
        pool_patches(*clouds, views=2, height=12, width=10, patch_size=4)
        for clouds in ((feat, cloud), take(feat, cloud, 2, 3))
    ]
    assert torch.equal(patches[0].feat[1], patches[1].feat[0])


def test_no_points_give_no_cells():
    cells = pool(*make_cloud(0, 0))
    assert cells.feat.shape == (1, 2, 0, 4 + GEOMETRY_CHANNELS)
    assert cells.is_valid.shape == (1, 0)


def test_features_of_half_precision_are_added_in_float32():
    feat, cloud = make_cloud(3000, 0)
    squeezed = dataclasses.replace(cloud, coord_m=cloud.coord_m * 0.01 + 0.2)
    half = (feat + 10).bfloat16()
    mean = pool(half, squeezed).feat[0, 0, 0, :4]
    assert_close(mean, half.double().mean(dim=0).float(), rtol=1e-5, atol=0.0)


def test_convention_patches_are_numbered_by_row_and_cover_cut_borders():
    # A 12 × 10 image in patches of 4: 3 rows, 3 columns, the last one two pixels wide.
    feat, cloud = make_cloud(40, 30)
    cells = pool_patches(feat, cloud, views=2, height=12, width=10, patch_size=4, half_extent_m=0.5)
    assert cells.feat.shape == (1, 2, 9, 4 + GEOMETRY_CHANNELS)
    assert cells.is_valid.all()
    row, column = cloud.pixel_index[:40] // 10, cloud.pixel_index[:40] % 10
    members = (row // 4 == 1) & (column // 4 == 2)
    assert members.any()
    assert_close(cells.feat[0, 0, 5, :4], feat[:40][members].mean(dim=0))
    assert_close(cells.feat[0, 0, 5, 9:12], cloud.coord_m[:40][members].mean(dim=0))  # box of side 1 m
    occupancy = math.log(1 + int(members.sum())) / math.log(17)
    assert_close(cells.feat[0, 0, 5, 4], torch.tensor(occupancy))
    # Row 1 of 3 is the middle, column 2 of 3 lies two thirds to the right.
    assert_close(cells.centre_m[0, 5], torch.tensor([2 / 3 * 0.5, 0.0, 0.0]))


def test_impossible_patch_size_is_refused():
    with pytest.raises(ConfigError, match="patch_size must be at least 1 pixel, got 0"):
        pool_patches(*make_cloud(4), views=1, height=12, width=10, patch_size=0)


def test_a_whole_view_is_its_mean():
    feat, cloud = make_cloud(40, 0)
    cells = pool_globally(feat, cloud, views=2)
    assert cells.feat.shape == (1, 2, 1, 4 + GEOMETRY_CHANNELS)
    assert_close(cells.feat[0, 0, 0, :4], feat.mean(dim=0))
    assert_close(cells.feat[0, 0, 0, 9:12], cloud.coord_m.mean(dim=0) / 2)
    assert cells.is_occupied.flatten().tolist() == [True, False]
    assert cells.feat[0, 1].eq(0).all()
