"""What is made of the same depth, recorded or predicted."""

from __future__ import annotations

from dataclasses import replace

import torch

from laq_model.encoder_config import EncoderConfig
from laq_model.scene_observation import SceneObservation, observe_scenes
from laq_model.structures import DepthAndCameras

SIZE_PX, FOCAL_PX = 28, 25.0
WALL_M, BOX_M = 1.0, 0.62
BOX_PX, SHIFT_PX = 6, 5
CONFIG = EncoderConfig(max_points=4096)


class Given:
    """A source that says what it is told."""

    name = "given"

    def __init__(self, geometry: DepthAndCameras):
        self.geometry = geometry

    def __call__(self, frames: torch.Tensor, recorded: DepthAndCameras | None) -> DepthAndCameras:
        return self.geometry


def observe(*, is_metric: bool, slack: float = 1.0, box_m: float = BOX_M) -> SceneObservation:
    """A textured box that moves to the right before a grey wall."""
    depth = torch.full((1, 2, SIZE_PX, SIZE_PX), WALL_M)
    frames = torch.full((1, 2, 3, SIZE_PX, SIZE_PX), 0.5)
    texture = torch.rand(3, BOX_PX, BOX_PX, generator=torch.Generator().manual_seed(3))
    for frame in (0, 1):
        where = (0, frame, ..., slice(10, 10 + BOX_PX), slice(8 + frame * SHIFT_PX, 14 + frame * SHIFT_PX))
        depth[where], frames[where] = box_m, texture
    centre = (SIZE_PX - 1) / 2
    intrinsics = torch.tensor([[FOCAL_PX, 0, centre], [0, FOCAL_PX, centre], [0, 0, 1]])
    geometry = DepthAndCameras(
        depth=depth,
        confidence=torch.ones_like(depth),
        intrinsics=intrinsics.expand(1, 2, 3, 3),
        cam_from_world=torch.eye(3, 4).expand(1, 2, 3, 4),
        world_up=torch.tensor([[0.0, -1.0, 0.0]]),
        is_metric=is_metric,
    )
    return observe_scenes(Given(geometry), frames, config=replace(CONFIG, predicted_slack=slack))


def longest(scene: SceneObservation) -> float:
    return float(scene.cloud.displacement_m.norm(dim=-1).max())


def test_slack_lets_predicted_depth_find_a_motion_that_is_long_in_nominal_metres():
    scene = observe(is_metric=False, slack=1.5)
    nominal = float(scene.geometry.depth.max()) / WALL_M
    shift = SHIFT_PX * BOX_M / FOCAL_PX * nominal
    assert CONFIG.max_shift_m < shift < 1.5 * CONFIG.max_shift_m
    assert abs(longest(scene) - shift) < 0.03
    assert abs(longest(observe(is_metric=False, slack=1.0)) - shift) > 0.03


def test_slack_does_not_touch_recorded_depth():
    plain, with_slack = (observe(is_metric=True, slack=slack).cloud for slack in (1.0, 1.5))
    assert torch.equal(plain.displacement_m, with_slack.displacement_m)
    assert torch.equal(plain.is_seen_through, with_slack.is_seen_through)
    assert abs(float(plain.displacement_m.norm(dim=-1).max()) - SHIFT_PX * BOX_M / FOCAL_PX) < 0.02


def test_predicted_depth_that_hardly_lets_a_thing_be_seen_through_finds_its_motion_all_the_same():
    box_m = 0.96  # nearer than the wall by less than the margin, and by more than NEARLY of it
    predicted, recorded = (
        observe(is_metric=is_metric, slack=2.0, box_m=box_m) for is_metric in (False, True)
    )
    assert not predicted.cloud.is_seen_through.any()
    nominal = float(predicted.geometry.depth.max()) / WALL_M
    assert abs(longest(predicted) - SHIFT_PX * box_m / FOCAL_PX * nominal) < 0.03
    assert longest(recorded) == 0
