import math

import pytest
import torch
from torch.testing import assert_close

from laq_model.pretraining.matching import match_target
from laq_model.pretraining.vggt_losses import (
    CONFIDENCE_ALPHA,
    FAR_M,
    VGGTLossWeights,
    camera_loss,
    confidence_loss,
    depth_change_loss,
    depth_gradient_loss,
    ego_flow,
    flow_loss,
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


def test_confidence_loss_by_hand():
    error, confidence = torch.full((1, 1, 1, 2), -0.5), torch.full((1, 1, 1, 2), 2.0)
    assert float(confidence_loss(error, confidence)) == pytest.approx(1.0 - 0.2 * math.log(2))


def test_confidence_is_best_where_it_says_alpha_over_error():
    error = torch.full((1, 1, 1, 1), CONFIDENCE_ALPHA / 4)
    losses = [float(confidence_loss(error, torch.full_like(error, c))) for c in (3.0, 4.0, 5.0)]
    assert losses[1] == min(losses)


def test_depth_gradient_loss_by_hand():
    error = torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]])
    # Across: |1 − 0| and |3 − 0|, mean 2. Down: |0 − 0| and |3 − 1|, mean 1.
    assert float(depth_gradient_loss(error)) == pytest.approx(3.0)


def test_ego_flow_of_a_camera_that_moves_sideways():
    recorded = still_scene(torch.full((1, 2, 4, 4), 2.0), translation_m=-0.5)
    target = scene_target(recorded)
    # The second camera stands 0.5 m to the right: the first sees its points 4 · 0.5 / 2 = 1 pixel over.
    assert_close(target.ego_flow[0, 0], torch.zeros(4, 4, 2))
    assert_close(target.ego_flow[0, 1], torch.tensor([0.25, 0.0]).expand(4, 4, 2))


def test_ego_flow_of_a_point_behind_the_first_camera_is_bounded():
    point_map = torch.tensor([0.1, -0.1, -1.0]).view(1, 1, 1, 1, 3)
    flow = ego_flow(point_map, torch.eye(3)[None])
    assert flow.flatten().tolist() == [1.0, -1.0]


def test_flow_loss_compares_patch_middles_of_later_views():
    flow = torch.zeros(1, 2, 4, 4, 2)
    flow[0, 0] = 7.0
    flow[0, 1, 1, 1] = torch.tensor([0.4, 0.2])  # the middle of a 2 × 2 patch is its last pixel
    assert float(flow_loss(torch.zeros(1, 2, 2, 2, 2), flow)) == pytest.approx(0.6 / 8)
    assert float(flow_loss(torch.zeros(1, 1, 2, 2, 2), flow[:, :1])) == 0.0


def test_depth_change_counts_only_still_cameras():
    error = torch.tensor([[0.1, 0.4], [0.0, 5.0]]).view(2, 2, 1, 1)
    depth, still = torch.ones(2, 2, 1, 1), torch.tensor([[True, True], [True, False]])
    assert float(depth_change_loss(error, depth, torch.ones_like(depth), still)) == pytest.approx(0.3)
    assert (
        float(depth_change_loss(error, depth, torch.ones_like(depth), torch.zeros(2, 2, dtype=torch.bool)))
        == 0.0
    )


def test_depth_change_counts_the_few_moved_pixels_as_much_as_the_rest():
    depth = torch.ones(1, 2, 1, 10)
    depth[0, 1, 0, 0] = 0.9
    error = torch.zeros(1, 2, 1, 10)
    error[0, 1, 0, 0] = 0.5
    error[0, 1, 0, 1] = 0.9
    still = torch.ones(1, 2, dtype=torch.bool)
    assert float(depth_change_loss(error, depth, torch.ones_like(depth), still)) == pytest.approx(
        0.5 + 0.9 / 9
    )


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


def test_true_answer_costs_nothing():
    recorded = still_scene(torch.rand(1, 3, 4, 4) + 1, translation_m=0.1)
    target = scene_target(recorded)
    terms = vggt_loss(
        target.depth,
        torch.ones_like(target.depth),
        target.pose_enc,
        target.ego_flow[:, :, 1::2, 1::2],
        match_target(target.ego_flow, grid=(2, 2))[0].clamp(min=1e-30).log(),
        target=target,
        pixel_weight=torch.ones_like(target.depth),
        weights=VGGTLossWeights(),
    )
    for name, value in terms.items():
        assert float(value) == pytest.approx(0, abs=2e-5), name


def test_total_is_the_weighted_sum():
    target = scene_target(still_scene(torch.rand(1, 2, 4, 4) + 1, translation_m=0.1))
    weights = VGGTLossWeights(depth=2.0, depth_gradient=0.0, camera=3.0)
    terms = vggt_loss(
        1.1 * target.depth,
        torch.full_like(target.depth, 2.0),
        target.pose_enc + 0.1,
        target.ego_flow[:, :, 1::2, 1::2],
        match_target(target.ego_flow, grid=(2, 2))[0].clamp(min=1e-30).log(),
        target=target,
        pixel_weight=torch.ones_like(target.depth),
        weights=weights,
    )
    total = sum(getattr(weights, name) * value for name, value in terms.items() if name != "total")
    assert_close(terms["total"], total)
    assert_close(terms["depth"], torch.tensor(0.1))
    # Past the bend at 0.05, Huber is |e| − 0.05 / 2; the weights of the nine numbers add up to 111.
    assert_close(terms["camera"], torch.tensor(0.075 * 111))


def test_small_pose_differences_count_by_their_square():
    true = torch.zeros(1, 1, 9)
    found = true.clone()
    found[..., 0] = 0.02
    # e² / (2 · 0.05) times the weight of a translation.
    assert float(camera_loss(found, true)) == pytest.approx(10 * 0.0004 / 0.1)


def test_point_loss_of_a_shifted_camera():
    target = scene_target(still_scene(torch.full((1, 1, 4, 4), 2.0)))
    shifted = target.pose_enc.clone()
    shifted[..., 0] += 0.3
    # Every point lies 0.3 to the side: a third of it in the mean over x, y, z, over the depth.
    assert_close(point_loss(target.depth, shifted, target=target), 0.1 / target.depth[0, 0, 0, 0])
