"""One point a cell; Concerto's own preparation of a cloud."""

from __future__ import annotations

import math
from pathlib import Path

import pointcloud_twins as twins
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close

from laq_model.errors import GeometryError
from laq_model.pointcloud.batching import (
    _sum_of_sorted,
    batch_index,
    counts_from_offset,
    offset_from_counts,
    rank_in_group,
    sum_by_group,
)
from laq_model.pointcloud.voxelize import concerto_transform, voxelize

GOLDEN = load_file(str(Path(__file__).parents[1] / "golden" / "ptv3_golden_transform.safetensors"))


def one_cloud(*points: tuple[float, float, float], voxel_size: float = 1.0, origin: float = 0.0):
    batch = torch.zeros(len(points), dtype=torch.long)
    return voxelize(torch.tensor(points), batch, voxel_size=voxel_size, origin=origin)


def test_convention_the_point_nearest_the_cell_centre_stays():
    voxels = one_cloud((0.9, 0.5, 0.5), (0.4, 0.5, 0.5), (1.5, 0.5, 0.5))
    assert voxels.kept.tolist() == [1, 2]
    assert voxels.inverse.tolist() == [0, 0, 1]
    assert voxels.grid_coord.tolist() == [[0, 0, 0], [1, 0, 0]]


def test_convention_of_equally_near_points_the_first_stays():
    assert one_cloud((0.75, 0.5, 0.5), (0.25, 0.5, 0.5)).kept.tolist() == [0]
    assert one_cloud((0.25, 0.5, 0.5), (0.75, 0.5, 0.5)).kept.tolist() == [0]


def test_cells_are_counted_from_the_origin_and_reach_below_it():
    voxels = one_cloud((-1.0, -0.99, -0.01), (0.03, 0.0, 0.0), voxel_size=0.5, origin=-1.0)
    assert voxels.grid_coord.tolist() == [[0, 0, 1], [2, 2, 2]]
    below = one_cloud((-0.1, 0.1, 0.1))
    assert below.grid_coord.tolist() == [[-1, 0, 0]]


def test_convention_voxel_borders_are_decided_in_float64():
    edges = (torch.arange(1, 2000) * 0.02).float()
    coord = torch.stack([edges, torch.zeros_like(edges), torch.zeros_like(edges)], dim=-1)
    batch = torch.arange(len(edges))  # a cloud each, so that every point stays
    voxels = voxelize(coord, batch, voxel_size=0.02, origin=0.0)
    expected = [math.floor(value / 0.02) for value in edges.tolist()]
    assert voxels.grid_coord[:, 0].tolist() == expected
    assert (edges / 0.02).floor().long().tolist() != expected  # what float32 would say


@given(st.integers(0, 10_000), st.integers(1, 120))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_equals_a_plain_loop(seed, num_points):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.randn(num_points, 3, generator=generator)
    batch = torch.randint(0, 3, (num_points,), generator=generator)
    voxels = voxelize(coord, batch, voxel_size=0.5, origin=-0.25)
    best, cell_of_row = twins.voxelize(coord, batch, voxel_size=0.5, origin=-0.25)
    found = [
        (cloud, *cell)
        for cloud, cell in zip(batch[voxels.kept].tolist(), voxels.grid_coord.tolist(), strict=True)
    ]
    assert found == sorted(best)
    assert voxels.kept.tolist() == [best[cell] for cell in sorted(best)]
    assert [found[index] for index in voxels.inverse.tolist()] == cell_of_row


@given(st.integers(0, 10_000))
@settings(deadline=None, derandomize=True, max_examples=10)
def test_voxelizing_twice_changes_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    coord = torch.randn(200, 3, generator=generator)
    batch = torch.arange(200) // 100
    once = voxelize(coord, batch, voxel_size=0.5, origin=0.0)
    twice = voxelize(coord[once.kept], batch[once.kept], voxel_size=0.5, origin=0.0)
    rows = torch.arange(len(once.kept))
    assert torch.equal(twice.kept, rows)
    assert torch.equal(twice.inverse, rows)
    assert torch.equal(twice.grid_coord, once.grid_coord)


def test_no_points_give_no_voxels():
    voxels = voxelize(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), voxel_size=1.0, origin=0.0)
    assert len(voxels.kept) == len(voxels.inverse) == len(voxels.grid_coord) == 0


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(GeometryError, match="not finite; filter them first"):
        one_cloud((0.0, math.nan, 0.0))


def test_a_grid_too_large_to_number_is_refused():
    with pytest.raises(GeometryError, match="cannot be numbered; use a larger voxel"):
        one_cloud((0.0, 0.0, 0.0), (1e9, 1e9, 1e9), voxel_size=1e-3)


@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_concerto_transform_matches_golden(precision):
    raw = {name: GOLDEN[f"{precision}.raw_{name}"] for name in ("coord", "color", "normal")}
    before = raw["coord"].clone()
    ours = concerto_transform(raw["coord"], raw["color"], raw["normal"])
    assert torch.equal(raw["coord"], before)
    golden_grid, golden_inverse = GOLDEN[f"{precision}.grid_coord"], GOLDEN[f"{precision}.inverse"]
    # Rows come in another order, so compare what each raw point is given.
    assert torch.equal(ours.grid_coord[ours.inverse], golden_grid[golden_inverse].long())
    assert len(ours.grid_coord) == len(golden_grid) == ours.offset.item()
    # The point of a cell is another draw; it is one of the cell's raw points, with all its channels.
    centred = (raw["coord"] - GOLDEN[f"{precision}.shift"]).float()
    feat = torch.cat([centred, raw["color"].float() / 255, raw["normal"]], dim=-1)
    row_of_feat = {tuple(row): index for index, row in enumerate(feat.tolist())}
    chosen = torch.tensor([row_of_feat[tuple(row)] for row in ours.feat.tolist()])
    assert torch.equal(ours.inverse[chosen], torch.arange(len(chosen)))
    assert_close(ours.coord, ours.feat[:, :3], rtol=0.0, atol=0.0)


def test_concerto_transform_refuses_an_empty_cloud():
    with pytest.raises(GeometryError, match="without points"):
        concerto_transform(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0, 3))


def test_convention_offset_is_the_end_row_of_each_cloud():
    offset = torch.tensor([0, 2, 2, 5, 5])
    assert counts_from_offset(offset).tolist() == [0, 2, 0, 3, 0]
    assert offset_from_counts(torch.tensor([0, 2, 0, 3, 0])).tolist() == offset.tolist()
    assert batch_index(offset, 5).tolist() == [1, 1, 3, 3, 3]


def test_rank_counts_earlier_rows_of_the_same_group():
    group = torch.tensor([2, 0, 2, 2, 0])
    assert rank_in_group(group, num_groups=4).tolist() == [0, 0, 1, 2, 1]


def test_both_ways_of_summing_give_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    values, group = (
        torch.randn(500, 7, generator=generator),
        torch.randint(0, 40, (500,), generator=generator),
    )
    sums = sum_by_group(values, group, num_groups=45)
    assert torch.equal(sums, _sum_of_sorted(values, group, num_groups=45))
    assert_close(sums[3], values[group == 3].sum(dim=0))
    assert torch.equal(sums[40:], torch.zeros(5, 7))
