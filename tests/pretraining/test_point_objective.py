from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.point_clouds import PointBatch, change_points, nothing_withheld
from laq_model.pretraining.point_objective import (
    MaskConfig,
    block_mask,
    image_loss,
    is_asked,
    mean_of_patches,
    own_loss,
    own_targets,
)
from laq_model.pretraining.point_probe import area_under_curve
from laq_model.pretraining.tiny_concerto import raw_inputs

VOXEL_M, CELLS = 0.1, 20


def batch_of(num_points: int = 60, clouds: int = 2, seed: int = 0) -> PointBatch:
    """Random distinct cells in a box of 2 m, points in the middle of their cells."""
    generator = torch.Generator().manual_seed(seed)
    cell = torch.cat([torch.randperm(CELLS**3, generator=generator)[:num_points] for _ in range(clouds)])
    grid = torch.stack([cell // CELLS**2, cell // CELLS % CELLS, cell % CELLS], dim=1)
    normal = torch.nn.functional.normalize(torch.randn(len(cell), 3, generator=generator), dim=1)
    return PointBatch(
        coord=(grid + 0.5) * VOXEL_M + torch.tensor([-1.0, -1.0, 0.0]),
        color=torch.rand(len(cell), 3, generator=generator),
        normal=normal,
        grid_coord=grid,
        offset=torch.arange(1, clouds + 1) * num_points,
        patch_index=torch.randint(4, (len(cell),), generator=generator)
        + 4 * (torch.arange(len(cell)) // num_points),
        image_tokens=torch.randn(clouds, 4, 8, generator=generator),
        has_moved=torch.rand(len(cell), generator=generator) < 0.3,
        is_still=torch.ones(clouds, dtype=torch.bool),
        kind=torch.zeros(len(cell), dtype=torch.long),
        has_color=torch.ones(len(cell), dtype=torch.bool),
        has_normal=torch.ones(len(cell), dtype=torch.bool),
    )


def test_own_loss_by_hand():
    predicted, target = torch.zeros(2, 9), torch.zeros(2, 9)
    target[0] = 1.0
    # Smooth L1 with beta 0.5 at 1: 1 − 0.25.
    first = torch.tensor([[True], [False]]).expand(2, 9)
    assert float(own_loss(predicted, target, first)) == pytest.approx(0.75)
    assert float(own_loss(predicted, target, torch.ones(2, 9, dtype=torch.bool))) == pytest.approx(0.375)
    assert float(own_loss(predicted, target, torch.zeros(2, 9, dtype=torch.bool))) == 0.0


def test_points_are_asked_for_what_they_do_not_see():
    batch = batch_of(2, clouds=2)
    first_cloud = torch.tensor([True, True, False, False])
    batch = replace(batch, has_color=first_cloud, has_normal=~first_cloud)
    asked = is_asked(batch, torch.tensor([True, False, False, False]))
    place, color, normal = asked[:, 0:3], asked[:, 3:6], asked[:, 6:9]
    assert place.all(dim=1).tolist() == place.any(dim=1).tolist() == [True, False, False, False]
    assert color.all(dim=1).tolist() == color.any(dim=1).tolist() == [True, False, True, True]
    assert normal.all(dim=1).tolist() == normal.any(dim=1).tolist() == [True, True, False, False]
    seen = raw_inputs(batch)
    assert (seen[:, 3:6].abs().sum(dim=1) > 0).tolist() == first_cloud.tolist()
    assert (seen[:, 6:9].abs().sum(dim=1) > 0).tolist() == (~first_cloud).tolist()
    assert_close(raw_inputs(nothing_withheld(batch))[:, 3:], torch.cat([batch.color, batch.normal], dim=1))


def test_image_loss_ignores_patches_with_few_points():
    predicted = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    target = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert float(image_loss(predicted, target, torch.tensor([9, 9, 1]))) == pytest.approx(0.5)


def test_patch_means_by_hand():
    feat = torch.tensor([[1.0], [3.0], [7.0]])
    mean, count = mean_of_patches(feat, torch.tensor([0, 0, 2]), 3)
    assert_close(mean, torch.tensor([[2.0], [0.0], [7.0]]))
    assert count.tolist() == [2, 0, 1]


def test_whole_blocks_are_hidden():
    batch = batch_of(400)
    cloud = torch.arange(2).repeat_interleave(400)
    mask = block_mask(
        batch.grid_coord, cloud, config=MaskConfig(0.6, 5), generator=torch.Generator().manual_seed(0)
    )
    block = torch.cat([cloud[:, None], batch.grid_coord // 5], dim=1)
    for row in torch.unique(block, dim=0):
        hidden = mask[(block == row).all(dim=1)]
        assert hidden.all() or not hidden.any()
    assert 0.45 < mask.float().mean() < 0.75


def test_turned_clouds_keep_points_in_their_cells():
    batch = batch_of()
    turned = change_points(batch, max_grid_coord=CELLS - 1, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(turned.grid_coord, batch.grid_coord)
    cell = ((turned.coord + torch.tensor([1.0, 1.0, 0.0])) / VOXEL_M).floor().long()
    assert torch.equal(cell, turned.grid_coord)
    # Distances inside a cloud and the angle between place and normal stay.
    assert_close(torch.pdist(turned.coord[:60]), torch.pdist(batch.coord[:60]))
    before, after = ((b.coord * b.normal).sum(dim=1) for b in (batch, turned))
    assert_close(before, after)


def test_own_targets_have_unit_spread():
    target = own_targets(batch_of(2000), half_extent_m=1.0)
    assert ((target.std(dim=0) > 0.5) & (target.std(dim=0) < 1.3)).all()
    assert target.mean(dim=0).abs().max() < 0.1


def test_area_under_curve_by_hand():
    score = torch.tensor([0.1, 0.4, 0.35, 0.8])
    is_positive = torch.tensor([False, False, True, True])
    assert area_under_curve(score, is_positive) == pytest.approx(0.75)
