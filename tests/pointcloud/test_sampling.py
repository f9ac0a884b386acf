"""Which points stay when a cloud has too many."""

from __future__ import annotations

import pointcloud_twins as twins
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laq_model.errors import ConfigError, GeometryError
from laq_model.pointcloud.cell_hash import cell_hash
from laq_model.pointcloud.sampling import Method, subsample


def clouds(*counts: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distinct cells of a 20³ grid for each cloud, points inside them."""
    generator = torch.Generator().manual_seed(seed)
    cells = [torch.randperm(8000, generator=generator)[:count] for count in counts]
    flat = torch.cat(cells)
    grid_coord = torch.stack([flat // 400, flat // 20 % 20, flat % 20], dim=-1)
    coord = grid_coord + torch.rand(len(flat), 3, generator=generator)
    batch = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    return grid_coord, coord, batch


def keep(grid_coord, coord, batch, *, max_points: int, num_clouds: int, method: Method = "voxel", **kwargs):
    return subsample(
        grid_coord, coord, batch, max_points=max_points, method=method, num_clouds=num_clouds, **kwargs
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", ["voxel", "random", "farthest"])
def test_full_clouds_shrink_to_the_limit_and_others_stay_whole(method):
    grid_coord, coord, batch = clouds(300, 0, 40, 120)
    kept = keep(grid_coord, coord, batch, max_points=100, num_clouds=4, method=method, generator=seeded())
    assert torch.bincount(batch[kept], minlength=4).tolist() == [100, 0, 40, 100]
    assert torch.equal(kept, kept.unique())


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_views_share_the_threshold_of_a_plain_loop(seed, views):
    grid_coord, coord, batch = clouds(60, 25, 10, 0, 45, 31, seed=seed)
    kept = keep(grid_coord, coord, batch, max_points=30, num_clouds=6, views=views)
    hashes = cell_hash(grid_coord).tolist()
    expected = twins.share_threshold(hashes, batch.tolist(), max_points=30, num_clouds=6, views=views)
    assert kept.tolist() == expected


@pytest.mark.parametrize("method", ["voxel", "random"])
def test_a_cell_of_both_views_is_kept_in_both_or_in_none(method):
    grid_coord, coord, batch = clouds(200, 120)
    grid_coord[200:] = grid_coord[:120]  # the second view sees part of the first
    kept = keep(
        grid_coord, coord, batch, max_points=50, num_clouds=2, views=2, method=method, generator=seeded()
    )
    first = {tuple(cell) for cell in grid_coord[kept[batch[kept] == 0]].tolist()}
    second = {tuple(cell) for cell in grid_coord[kept[batch[kept] == 1]].tolist()}
    shared = {tuple(cell) for cell in grid_coord[:120].tolist()}
    assert second == first & shared
    assert len(first) == 50
    assert 15 < len(second) < 45  # about 50 · 120 / 200


def test_a_cloud_that_just_fits_limits_no_other_view():
    grid_coord, coord, batch = clouds(50, 30)
    kept = keep(grid_coord, coord, batch, max_points=50, num_clouds=2, views=2)
    assert torch.equal(kept, torch.arange(80))


def test_voxel_choice_spreads_over_the_whole_grid():
    grid = torch.cartesian_prod(*[torch.arange(20)] * 3)
    kept = keep(grid, grid.float(), torch.zeros(8000, dtype=torch.long), max_points=1600, num_clouds=1)
    octant = (grid[kept] >= 10).long() @ torch.tensor([4, 2, 1])
    # 200 are expected in each octant; five standard deviations of a fair draw.
    assert torch.bincount(octant, minlength=8).sub(200).abs().max() < 66
    parity = torch.bincount(grid[kept].sum(dim=1) % 2, minlength=2)
    assert parity.sub(800).abs().max() < 90


def test_random_draws_again_for_each_seed_and_repeats_for_one():
    grid_coord, coord, batch = clouds(400)
    draw = [
        keep(grid_coord, coord, batch, max_points=50, num_clouds=1, method="random", generator=seeded(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draw[0], draw[1])
    common = set(draw[0].tolist()) & set(draw[2].tolist())
    assert len(common) < 20  # six are expected by chance


def test_farthest_starts_at_the_centroid_and_equals_a_plain_loop():
    grid_coord, coord, batch = clouds(70, 20, 50)
    kept = keep(grid_coord, coord, batch, max_points=24, num_clouds=3, method="farthest")
    expected = []
    for cloud, first_row in ((0, 0), (1, 70), (2, 90)):
        own = batch == cloud
        if own.sum() <= 24:
            expected += (torch.arange(20) + first_row).tolist()
            continue
        mean = grid_coord[own].double().mean(dim=0)
        start = int(((grid_coord[own] - mean) ** 2).sum(dim=1).argmin())
        expected += [first_row + row for row in twins.farthest(coord[own], 24, start)]
    assert kept.tolist() == expected


def test_farthest_never_starts_at_the_padding_of_a_shorter_cloud():
    # Cloud 0 is a square without a middle; the last row of all lies exactly there, but in cloud 1.
    square = torch.tensor([[0, 0, 0], [0, 4, 0], [4, 0, 0], [4, 4, 0]])
    line = torch.tensor([[9, 9, 9], [9, 9, 8], [9, 9, 7], [9, 9, 6], [2, 2, 0]])
    grid_coord = torch.cat([square, line])
    batch = torch.tensor([0] * 4 + [1] * 5)
    kept = keep(grid_coord, grid_coord.float(), batch, max_points=2, num_clouds=2, method="farthest")
    # The square's corners are equally near: the first, then the opposite one.
    assert kept[:2].tolist() == [0, 3]
    assert (batch[kept] == 1).sum() == 2


@pytest.mark.parametrize("method", ["voxel", "random", "farthest"])
def test_batch_neighbours_change_nothing(method):
    grid_coord, coord, batch = clouds(90, 150, 130, 60)
    kept = keep(
        grid_coord, coord, batch, max_points=50, num_clouds=4, views=2, method=method, generator=seeded()
    )
    own = batch >= 2
    alone = keep(
        grid_coord[own],
        coord[own],
        batch[own] - 2,
        max_points=50,
        num_clouds=2,
        views=2,
        method=method,
        generator=seeded(),
    )
    assert torch.equal(kept[kept >= 240] - 240, alone)


@given(
    st.lists(st.tuples(*[st.integers(0, 2**20 - 1)] * 3), min_size=2, max_size=50, unique=True),
    st.integers(0, 99),
)
@settings(deadline=None, derandomize=True, max_examples=30)
def test_different_cells_never_share_a_hash(cells, salt):
    hashes = cell_hash(torch.tensor(cells), salt=salt)
    assert len(hashes.unique()) == len(cells)
    assert ((hashes >= 0) & (hashes < 2**60)).all()


def test_convention_cell_hash_is_fixed():
    # Stored features depend on these numbers: the first cells that a full cloud drops.
    cells = torch.tensor([[0, 0, 0], [1, 2, 3], [2**20 - 1, 0, 5]])
    assert cell_hash(cells).tolist() == [422055200471300038, 432204572054488944, 1148262974468700922]


def test_cells_outside_the_hashed_range_are_refused():
    with pytest.raises(GeometryError, match=r"must be from 0 to 1048575, got -1 to 3"):
        cell_hash(torch.tensor([[0, -1, 3]]))


def test_random_without_generator_is_refused():
    with pytest.raises(ConfigError, match=r"needs a torch.Generator"):
        keep(*clouds(10), max_points=5, num_clouds=1, method="random")


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="max_points must be at least 1, got 0"):
        keep(*clouds(10), max_points=0, num_clouds=1)
    with pytest.raises(ConfigError, match="multiple of views, got 3 clouds and 2 views"):
        keep(*clouds(10), max_points=5, num_clouds=3, views=2)
