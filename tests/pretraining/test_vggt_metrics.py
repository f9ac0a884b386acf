import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.vggt_metrics import (
    align_scale,
    camera_metrics,
    depth_metrics,
    mean_of,
    plane_of_each_view,
    true_rotation_deg,
)
from laq_model.structures import DepthAndCameras


def scene(depth: torch.Tensor, cam_from_world: torch.Tensor | None = None) -> DepthAndCameras:
    scenes, views = depth.shape[:2]
    if cam_from_world is None:
        cam_from_world = torch.eye(3, 4).expand(scenes, views, 3, 4)
    return DepthAndCameras(
        depth=depth,
        confidence=torch.ones_like(depth),
        intrinsics=torch.diag(torch.tensor([100.0, 100.0, 1.0])).expand(scenes, views, 3, 3),
        cam_from_world=cam_from_world,
        world_up=torch.tensor([0.0, 0.0, 1.0]).expand(scenes, 3),
        is_metric=True,
    )


def test_alignment_is_the_median_ratio_and_ignores_holes():
    predicted = torch.tensor([1.0, 1.0, 1.0, 1.0]).view(1, 1, 2, 2)
    recorded = torch.tensor([2.0, 2.0, 9.0, 0.0]).view(1, 1, 2, 2)
    assert_close(align_scale(predicted, recorded), torch.tensor([2.0]))


def test_depth_figures_by_hand():
    recorded = torch.tensor([[1.0, 2.0], [1.0, 1.0]]).view(1, 2, 1, 2)  # the second pixel moves by 1 m
    predicted = torch.tensor([[1.0, 2.0], [1.1, 1.5]]).view(1, 2, 1, 2)
    figures = depth_metrics(predicted, scene(recorded))
    assert figures["abs_rel"] == pytest.approx((0.1 + 0.5) / 4)
    assert figures["delta_1.25"] == pytest.approx(0.75)
    assert figures["moved_abs_rel"] == pytest.approx(0.5)
    assert figures["moved_share"] == pytest.approx(0.5)
    assert figures["static_change_cm"] == pytest.approx(10.0)


def test_camera_figures_by_hand():
    cam = torch.eye(3, 4).repeat(1, 2, 1, 1)
    cam[0, 1, 0, 3] = 0.1
    found = cam.clone()
    found[0, 1, :, 3] = torch.tensor([0.0, 0.1, 0.0])
    angle = torch.tensor(0.2)
    found[0, 1, :2, :2] = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    recorded = scene(torch.ones(1, 2, 2, 2), cam)
    figures = camera_metrics(found, recorded.intrinsics * 1.1, recorded)
    assert figures["rotation_deg"] == pytest.approx(11.459, abs=1e-2)
    assert figures["translation_cm"] == pytest.approx(14.142, abs=1e-3)
    assert figures["translation_direction_deg"] == pytest.approx(90, abs=1e-3)
    assert figures["focal_rel"] == pytest.approx(0.1, abs=1e-6)


def test_medians_count_moving_cameras_only():
    cam = torch.eye(3, 4).repeat(4, 2, 1, 1)
    cam[1:, 1, 0, 3] = 0.1
    found = cam.clone()
    # The first camera stands still and is off by far; the others' directions are off by 0, 45 and 90 degrees.
    found[:, 1, :, 3] = torch.tensor([[9.0, 9, 9], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]])
    angle = torch.tensor(0.2)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    cam[3, 1, :2, :2] = turn
    recorded = scene(torch.ones(4, 2, 2, 2), cam)
    figures = camera_metrics(found, recorded.intrinsics, recorded)
    assert figures["translation_direction_deg_median"] == pytest.approx(45, abs=1e-3)
    assert figures["moving_rotation_deg"] == pytest.approx(11.459 / 3, abs=1e-2)
    assert figures["moving_rotation_deg_median"] == pytest.approx(0, abs=0.1)
    assert figures["true_rotation_deg_median"] == pytest.approx(0, abs=0.1)


def test_angle_of_a_quarter_turn():
    quarter = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    assert_close(true_rotation_deg(quarter), torch.tensor([90.0]))


def test_plane_predictor_finds_a_plane():
    v, u = torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 8), indexing="ij")
    plane = 1 / (0.7 + 0.1 * u - 0.2 * v)
    assert_close(plane_of_each_view(plane.expand(1, 2, 6, 8)), plane.expand(1, 2, 6, 8))


def test_mean_of_skips_what_a_batch_does_not_have():
    assert mean_of([{"a": 1.0}, {"a": float("nan")}, {"a": 3.0}]) == {"a": 2.0}
