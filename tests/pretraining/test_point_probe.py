from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.point_clouds import CloudBank, PointBatch
from laq_model.pretraining.point_probe import (
    ProbeSet,
    balanced_accuracy,
    fit_ridge,
    probe_kinds,
    probe_moved_points,
    probe_normals,
    probe_set,
    without_normals,
)


def bank_of(seed: int, *, clouds: int = 6, points: int = 200) -> CloudBank:
    """Clouds whose colour tells the kind; the unit normal is the place, and everything red moves."""
    generator = torch.Generator().manual_seed(seed)

    def cloud(number: int) -> PointBatch:
        coord = torch.nn.functional.normalize(torch.randn(points, 3, generator=generator), dim=1)
        kind = torch.randint(3, (points,), generator=generator)
        return PointBatch(
            coord=coord,
            color=torch.eye(3)[kind],
            normal=coord.clone(),
            grid_coord=torch.zeros(points, 3, dtype=torch.long),
            offset=torch.tensor([points]),
            patch_index=torch.zeros(points, dtype=torch.long),
            image_tokens=torch.zeros(1, 1, 2),
            has_moved=kind == 0,
            is_still=torch.tensor([number % 2 == 0]),
            kind=torch.tensor([0, 2, 4])[kind],
            has_color=torch.ones(points, dtype=torch.bool),
            has_normal=torch.ones(points, dtype=torch.bool),
        )

    return CloudBank([cloud(number) for number in range(clouds)], half_extent_m=1.0, voxel_size_m=0.02)


def color(batch: PointBatch) -> torch.Tensor:
    return batch.color


def place(batch: PointBatch) -> torch.Tensor:
    return batch.coord


def normal(batch: PointBatch) -> torch.Tensor:
    seen = batch.normal * batch.has_normal[:, None]
    return seen + 1e-3 * batch.coord.roll(1, 0)  # a neighbour's place tells nothing


def sets_of(features) -> tuple[ProbeSet, ProbeSet]:
    return probe_set(features, bank_of(0)), probe_set(features, bank_of(1))


def test_probes_find_what_features_say_and_nothing_else():
    by_color, by_place = sets_of(color), sets_of(place)
    assert probe_moved_points(*by_color) == pytest.approx(1.0)
    assert probe_moved_points(*by_place) == pytest.approx(0.5, abs=0.1)
    assert probe_kinds(*by_color) == pytest.approx(1.0)
    assert probe_kinds(*by_place) == pytest.approx(1 / 3, abs=0.1)
    assert probe_normals(*by_place) < 0.5


def test_moved_points_are_asked_of_still_cameras_only():
    train, held_out = sets_of(color)
    assert int(held_out.is_still.sum()) == 600
    lied = replace(held_out, has_moved=held_out.has_moved ^ ~held_out.is_still)
    assert probe_moved_points(train, lied) == probe_moved_points(train, held_out)


def test_level_points_do_not_decide_about_normals():
    """A probe that can only say "up" is far off, however many points look up."""

    def nothing(batch: PointBatch) -> torch.Tensor:
        return torch.zeros(len(batch.coord), 2)

    known, unknown = sets_of(nothing)
    flat = torch.arange(len(known.normal)) % 10 > 0
    up = torch.tensor([0.0, 0.0, 1.0])
    known, unknown = (
        replace(one, normal=torch.where(flat[:, None], up, one.normal)) for one in (known, unknown)
    )
    assert probe_normals(known, unknown) > 60


def test_normals_are_withheld_from_the_features():
    assert probe_normals(*sets_of(without_normals(normal))) > 45


def test_ridge_weighs_rows():
    x = torch.tensor([[0.0], [1.0], [0.0], [1.0]]).double()
    y = torch.tensor([[1.0], [3.0], [9.0], [9.0]]).double()
    predict = fit_ridge(x, y, torch.tensor([1.0, 1.0, 0.0, 0.0]).double())
    assert_close(predict(x[:2]), y[:2], rtol=0, atol=1e-2)


def test_balanced_accuracy_by_hand():
    told, kind = torch.tensor([1, 1, 1, 0, 3]), torch.tensor([1, 1, 1, 1, 3])
    assert balanced_accuracy(told, kind) == pytest.approx((0.75 + 1) / 2)
