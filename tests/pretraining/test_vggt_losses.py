import math

import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.vggt_losses import (
    FAR_M,
    VGGTLossWeights,
    confident_depth_loss,
    depth_change_loss,
    depth_gradient_loss,
    point_loss,
    scene_target,
    vggt_loss,
)
from laq_model.structures import DepthAndCameras


def still_scene(depth: torch.Tensor, *, translation_m: float = 0.0) -> DepthAndCameras:
    """One scene; each later camera stands ``translation_m`` farther along its own x axis."""
    views, height, width = depth.shape[1:]
    cam_from_world = torch.eye(3, 4).repeat(1, views, 1, 1)
    cam_from_world[0, :, 0, 3] = translation_m * torch.arange(views)
    intrinsics = torch.tensor([[width, 0, width / 2], [0, height, height / 2], [0, 0, 1.0]])
    return DepthAndCameras(
        depth=depth,
        confidence=torch.ones_like(depth),
        intrinsics=intrinsics.expand(1, views, 3, 3).float(),
        cam_from_world=cam_from_world,
        world_up=torch.tensor([[0.0, 0.0, 1.0]]),
        is_metric=True,
    )


def test_confident_depth_loss_by_hand():
    error, confidence = torch.full((1, 1, 1, 2), -0.5), torch.full((1, 1, 1, 2), 2.0)
    assert float(confident_depth_loss(error, confidence, alpha=0.2)) == pytest.approx(1.0 - 0.2 * math.log(2))


def test_confidence_is_best_where_it_says_alpha_over_error():
    error = torch.full((1, 1, 1, 1), 0.05)
    losses = [
        float(confident_depth_loss(error, torch.full_like(error, c), alpha=0.2)) for c in (3.0, 4.0, 5.0)
    ]
    assert losses[1] == min(losses)


def test_depth_gradient_loss_by_hand():
    error = torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]])
    confidence = torch.tensor([[[[9.0, 1.0], [9.0, 2.0]]]])
    # Across: |1 − 0|·1 and |3 − 0|·2, mean 3.5. Down: |0 − 0|·9 and |3 − 1|·2, mean 2.
    assert float(depth_gradient_loss(error, confidence)) == pytest.approx(5.5)


def test_depth_change_counts_only_still_cameras():
    error = torch.tensor([[0.1, 0.4], [0.0, 5.0]]).view(2, 2, 1, 1)
    still = torch.tensor([[True, True], [True, False]])
    assert float(depth_change_loss(error, still)) == pytest.approx(0.3)
    assert float(depth_change_loss(error, torch.zeros(2, 2, dtype=torch.bool))) == 0.0


def test_scene_unit_is_the_harmonic_mean_distance():
    # One pixel straight ahead: (u, v) = (0, 0) with the principal point there.
    recorded = still_scene(torch.tensor([1.0, 4.0]).view(1, 2, 1, 1), translation_m=0.0)
    intrinsics = torch.eye(3).expand(1, 2, 3, 3)
    target = scene_target(DepthAndCameras(**{**vars(recorded), "intrinsics": intrinsics}))
    assert_close(target.scale_m, torch.tensor([1.6]))  # 2 / (1/1 + 1/4)
    assert_close(target.depth.flatten(), torch.tensor([1.0, 4.0]) / 1.6)


def test_pixel_without_depth_is_far():
    recorded = still_scene(torch.zeros(1, 1, 2, 2))
    target = scene_target(recorded)
    assert_close(target.depth * target.scale_m, torch.full((1, 1, 2, 2), FAR_M))


def test_target_cameras_are_relative_to_the_first_and_in_scene_units():
    recorded = still_scene(torch.full((1, 2, 4, 4), 2.0), translation_m=0.5)
    target = scene_target(recorded)
    assert_close(target.pose_enc[0, 0, :7], torch.tensor([0.0, 0, 0, 0, 0, 0, 1]))
    assert_close(target.pose_enc[0, 1, 0] * target.scale_m[0], torch.tensor(0.5))
    assert_close(target.pose_enc[0, :, 7:], torch.full((2, 2), 2 * math.atan(0.5)))
    assert target.is_still.tolist() == [[True, False]]


def test_true_answer_costs_nothing_but_its_doubt():
    recorded = still_scene(torch.rand(1, 3, 4, 4) + 1, translation_m=0.1)
    target = scene_target(recorded)
    terms = vggt_loss(
        target.depth, torch.ones_like(target.depth), target.pose_enc, target=target, weights=VGGTLossWeights()
    )
    for name, value in terms.items():
        assert float(value) == pytest.approx(0, abs=2e-6), name


def test_point_loss_of_a_shifted_camera():
    target = scene_target(still_scene(torch.full((1, 1, 4, 4), 2.0)))
    shifted = target.pose_enc.clone()
    shifted[..., 0] += 0.3
    # Every point lies 0.3 to the side: a third of it in the mean over x, y, z, over the depth.
    assert_close(point_loss(target.depth, shifted, target=target), 0.1 / target.depth[0, 0, 0, 0])
