"""A patterned, bumpy wall seen from two places: its motion is found again, whatever moves before it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from laq_model.geometry.alignment import align_views_to_first
from laq_model.structures import DepthAndCameras

SIZE, FOCAL = 112, 120.0
INTRINSICS = torch.tensor([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1]])
# Second camera: turned by 0.02 rad about y, moved 5 cm to the right and 2 cm forward.
TURN_RAD, CENTRE = 0.02, (0.05, 0.0, 0.02)


def camera(turn_rad: float = TURN_RAD, centre: tuple[float, float, float] = CENTRE) -> Tensor:
    cos, sin = math.cos(turn_rad), math.sin(turn_rad)
    rotation = torch.tensor([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    return torch.cat([rotation, -(rotation @ torch.tensor(centre))[:, None]], dim=1)


def look(cam_from_world: Tensor, *, has_texture: bool = True) -> tuple[Tensor, Tensor]:
    """Frame and depth of the wall z = 2 + bumps(x, y), by stepping along each ray until it is met."""
    v, u = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    ray = torch.stack([(u - SIZE / 2) / FOCAL, (v - SIZE / 2) / FOCAL, torch.ones(SIZE, SIZE)], dim=-1)
    rotation, translation = cam_from_world[:, :3], cam_from_world[:, 3]
    depth = torch.full((SIZE, SIZE), 2.0)
    for _ in range(40):
        x, y, z = ((ray * depth[..., None] - translation) @ rotation).unbind(-1)
        depth = depth + (2 + 0.2 * torch.sin(3 * x) * torch.cos(4 * y) - z)
    if not has_texture:
        return torch.full((3, SIZE, SIZE), 0.5), depth
    shade = 0.5 + 0.2 * torch.sin(9 * x + 4 * y) + 0.2 * torch.sin(11 * y - 5 * x)
    return shade.expand(3, SIZE, SIZE).clone(), depth


def scene(*, second: Tensor | None = None, has_texture: bool = True) -> tuple[Tensor, DepthAndCameras]:
    """Two views, with the identity as what is believed of the second camera."""
    cameras = [torch.eye(3, 4), camera() if second is None else second]
    frames, depths = zip(*(look(c, has_texture=has_texture) for c in cameras), strict=True)
    geometry = DepthAndCameras(
        depth=torch.stack(depths)[None],
        confidence=torch.ones(1, 2, SIZE, SIZE),
        intrinsics=INTRINSICS.expand(1, 2, 3, 3),
        cam_from_world=torch.eye(3, 4).expand(1, 2, 3, 4),
        world_up=torch.tensor([[0.0, -1.0, 0.0]]),
        is_metric=False,
    )
    return torch.stack(frames)[None], geometry


def changed(geometry: DepthAndCameras, **fields: Tensor) -> DepthAndCameras:
    return DepthAndCameras(**{**vars(geometry), **fields})


def joined(*scenes: DepthAndCameras) -> DepthAndCameras:
    names = ("depth", "confidence", "intrinsics", "cam_from_world", "world_up")
    return DepthAndCameras(
        **{name: torch.cat([getattr(s, name) for s in scenes]) for name in names}, is_metric=False
    )


def is_near(found: Tensor, expected: Tensor) -> bool:
    """Within 0.1 degree and 4 mm: a sixteenth and a thirteenth of the motion, a quarter pixel at the wall."""
    turn = (found[:, :3] - expected[:, :3]).norm() / math.sqrt(2)
    return bool(turn < 0.0018) and bool((found[:, 3] - expected[:, 3]).norm() < 0.004)


def test_finds_the_motion_of_the_camera():
    frames, geometry = scene()
    aligned = align_views_to_first(frames, geometry)
    assert is_near(aligned.cam_from_world[0, 1], camera())
    assert not is_near(torch.eye(3, 4), camera())
    # Depth was right, and stays so to half a percent away from the border.
    inner = (slice(None), slice(None), slice(10, -10), slice(10, -10))
    assert torch.allclose(aligned.depth[inner], geometry.depth[inner], rtol=5e-3)
    assert torch.equal(aligned.depth[:, 0], geometry.depth[:, 0])
    assert torch.equal(aligned.cam_from_world[:, 0], geometry.cam_from_world[:, 0])


def test_starts_from_the_camera_that_is_given():
    second = camera(turn_rad=0.3, centre=(0.5, 0.0, 0.05))  # 36 pixels: too far to be found from the identity
    frames, geometry = scene(second=second)
    cameras = torch.stack([torch.eye(3, 4), camera(turn_rad=0.28, centre=(0.47, 0.0, 0.05))])
    aligned = align_views_to_first(frames, changed(geometry, cam_from_world=cameras[None]))
    assert is_near(aligned.cam_from_world[0, 1], second)


def test_what_moves_by_itself_counts_little():
    frames, geometry = scene()
    depth = geometry.depth.clone()
    # A dark box half a metre before the wall, a twentieth of each image, goes against the camera's motion.
    for view, left in ((0, 40), (1, 52)):
        frames[0, view, :, 40:64, left : left + 24] = 0.1
        depth[0, view, 40:64, left : left + 24] = 1.5
    aligned = align_views_to_first(frames, changed(geometry, depth=depth))
    assert is_near(aligned.cam_from_world[0, 1], camera())
    # The box keeps its depth: the correction follows what is around it.
    assert torch.allclose(aligned.depth[0, 1, 45:59, 57:71], torch.tensor(1.5), rtol=0.02)


def test_takes_out_a_slope_of_the_second_depth():
    frames, geometry = scene()
    slope = torch.linspace(0.94, 1.06, SIZE)
    depth = torch.stack([geometry.depth[:, 0], geometry.depth[:, 1] * slope], dim=1)
    aligned = align_views_to_first(frames, changed(geometry, depth=depth))
    inner = slice(14, -14)
    # What a shift of the camera explains as well stays in the camera: a third of the error of 3 % is left.
    error = (aligned.depth[0, 1, inner, inner] / geometry.depth[0, 1, inner, inner] - 1).abs()
    assert error.mean() < 0.01


def test_takes_a_factor_of_the_second_depth_for_no_motion():
    frames, geometry = scene()
    depth = geometry.depth * torch.tensor([1.0, 1.06])[:, None, None]
    aligned = align_views_to_first(frames, changed(geometry, depth=depth))
    assert is_near(aligned.cam_from_world[0, 1], camera())
    inner = slice(14, -14)
    assert torch.allclose(aligned.depth[..., inner, inner], geometry.depth[..., inner, inner], rtol=5e-3)


def test_does_not_depend_on_the_unit_of_the_scene():
    frames, geometry = scene()
    small = align_views_to_first(frames, changed(geometry, depth=geometry.depth / 4096)).cam_from_world[0, 1]
    assert is_near(torch.cat([small[:, :3], 4096 * small[:, 3:]], dim=1), camera())


def test_equal_frames_are_one_view_to_the_last_bit():
    frames, geometry = scene()
    frames[:, 1] = frames[:, 0]
    cameras = torch.stack([torch.eye(3, 4), camera(0.001, (0.001, 0.0, 0.0))])[None]
    aligned = align_views_to_first(frames, changed(geometry, cam_from_world=cameras))
    assert torch.equal(aligned.cam_from_world[0, 1], torch.eye(3, 4))
    assert torch.equal(aligned.depth[0, 1], geometry.depth[0, 0])


@pytest.mark.parametrize("reason", ["nothing to see", "noise only", "no depth somewhere"])
def test_keeps_the_start_where_nothing_is_gained(reason: str):
    frames, geometry = scene(has_texture=reason != "nothing to see")
    if reason == "nothing to see":  # flat grey, and a plane: any motion in it fits as well
        geometry = changed(geometry, depth=torch.full_like(geometry.depth, 2.0))
        frames[:, 1] += 1e-3
    elif reason == "noise only":
        frames, geometry = scene(second=torch.eye(3, 4))
        frames[:, 1] += 0.005 * torch.randn(frames[:, 1].shape, generator=torch.Generator().manual_seed(0))
    else:
        geometry = changed(geometry, depth=geometry.depth.index_fill(2, torch.tensor([3]), 0.0))
    aligned = align_views_to_first(frames, geometry)
    assert torch.equal(aligned.cam_from_world, geometry.cam_from_world)
    assert torch.equal(aligned.depth, geometry.depth)


def test_scenes_and_views_do_not_influence_each_other():
    frames, geometry = scene()
    other_frames, other = scene(second=camera(-0.03, (-0.03, 0.02, 0.0)))
    alone = align_views_to_first(frames, geometry)
    together = align_views_to_first(
        torch.cat([other_frames, frames, other_frames]), joined(other, geometry, other)
    )
    assert torch.equal(together.cam_from_world[1], alone.cam_from_world[0])
    assert torch.equal(together.depth[1], alone.depth[0])
    three_views = changed(
        geometry,
        **{
            name: torch.cat([getattr(geometry, name), getattr(other, name)[:, 1:]], dim=1)
            for name in ("depth", "confidence", "intrinsics", "cam_from_world")
        },
    )
    clip = align_views_to_first(torch.cat([frames, other_frames[:, 1:]], dim=1), three_views)
    assert torch.equal(clip.cam_from_world[:, :2], alone.cam_from_world)
    assert is_near(clip.cam_from_world[0, 2], camera(-0.03, (-0.03, 0.02, 0.0)))


def test_one_view_is_handed_back():
    frames, geometry = scene()
    single = changed(
        geometry,
        **{
            name: getattr(geometry, name)[:, :1]
            for name in ("depth", "confidence", "intrinsics", "cam_from_world")
        },
    )
    assert align_views_to_first(frames[:, :1], single) is single
