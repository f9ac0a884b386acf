"""Make predicted views of a scene agree: camera and depth of each view, refined on what stands still.

For each view after the first: the rigid motion and one factor of depth that bring the first view's points
onto it, by least squares over all pixels of brightness and of log depth, coarse to fine, with Student-t
weights, so that what moves by itself counts little. Then the log depth that is left between the views is
taken out where it is smooth.

Sources: Steinbrücker, Sturm & Cremers, "Real-Time Visual Odometry from Dense RGB-D Images", ICCV Workshops
2011 (dense photometric alignment); Kerl, Sturm & Cremers, "Robust Odometry Estimation for RGB-D Cameras",
ICRA 2013 (Student-t weights). Departures: a residual of log depth, which is blind to a scene's unit; a factor
for the second view's depth and the smooth correction, because this depth is predicted; and a view keeps what
it had unless the cost falls clearly.

Everything is a fixed number of steps on each pair of views alone: no scene influences another, beyond the
rounding of a matrix library on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..structures import DepthAndCameras
from .cameras import rotate

FINE_SIZE_PX = 56  # longer side at which the alignment ends; it begins at half of it
STEPS_PER_LEVEL = 8
FREEDOM = 5.0  # of Student's t, as Kerl et al.
DEPTH_WEIGHT = 0.1  # predicted depth is wrong in patches, not pixel by pixel: it counts less than brightness
MIN_BRIGHTNESS_SPREAD = 0.01  # of [0, 1]; below it lies the noise of a compressed video
MIN_LOG_DEPTH_SPREAD = 0.005
# One standard deviation of what is expected: of translation (in median depths of the first view) and rotation
# in one step, of the log depth factor in all.
EXPECTED_STEP, EXPECTED_TURN_RAD, EXPECTED_LOG_FACTOR = 0.2, 0.2, 0.03
MAX_COST_RATIO = 0.9  # a fixed camera's cost falls by a few percent, on noise; a moving camera's by a quarter
CORRECTION_STEPS = 3
CORRECTION_WINDOW_PX = 9  # of three box filters at the fine size: a standard deviation of 4.5 pixels
CORRECTION_CUT = 3.0  # residual, in spreads, beyond which a pixel hardly counts: it moved by itself
CORRECTION_FLOOR = 0.05  # mean weight below which a neighbourhood leaves its depth as it is
MIN_DEPTH = 1e-3  # of the median depth: nearer points are not projected
# BT.601 weights of red, green and blue in brightness.
LUMA = (0.299, 0.587, 0.114)
MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation of a normal distribution


@dataclass(frozen=True)
class _Level:
    """One resolution of pairs of views; view 0 is the first view, 1 the one that is aligned to it.

    Attributes:
        brightness: of the first view's pixels.
        points: of the first view, in its own camera.
        maps: of the second view: brightness, log depth, and their slopes along u and along v.
    """

    brightness: Float[Tensor, "pairs pixels"]
    points: Float[Tensor, "pairs 3 pixels"]
    maps: Float[Tensor, "pairs 6 height width"]
    log_depth: Float[Tensor, "pairs 2 height width"]
    intrinsics: Float[Tensor, "pairs 2 3 3"]


@dataclass(frozen=True)
class _Motion:
    """x_second = rotation · x_first + translation; the second view's depth grows by exp(log_factor)."""

    rotation: Float[Tensor, "pairs 3 3"]
    translation: Float[Tensor, "pairs 3"]
    log_factor: Float[Tensor, " pairs"]


@dataclass(frozen=True)
class _Residuals:
    """What the views disagree in at the first view's pixels: brightness and log depth.

    Attributes:
        point: of the first view, in the second camera.
        slopes: of the second view's brightness and log depth there, along u and along v.
    """

    value: Float[Tensor, "pairs 2 pixels"]
    is_seen: Bool[Tensor, "pairs 1 pixels"]
    point: Float[Tensor, "pairs 3 pixels"]
    slopes: tuple[Float[Tensor, "pairs 2 pixels"], Float[Tensor, "pairs 2 pixels"]]


def align_views_to_first(
    frames: Float[Tensor, "scenes views 3 height width"], geometry: DepthAndCameras
) -> DepthAndCameras:
    """Refine camera and depth of each view after the first, so that what stands still lies in one place.

    A view keeps its camera and depth, to the last bit, where the cost does not fall by a tenth. A view with
    exactly the first view's pixels gets the first view's camera and depth.

    Args:
        frames: RGB in [0, 1], of the size of the depth.
        geometry: predicted; each scene's first camera is its world (``relative_to_first``). The cameras are
            the start: a motion of more than about a tenth of the image is not found from the identity. A
            view with depth that is not positive keeps what it has.

    Returns:
        The same scenes; the first views, all intrinsics and confidences are untouched.
    """
    scenes, views = frames.shape[:2]
    if views == 1:
        return geometry
    others = scenes * (views - 1)
    brightness = _pairs_with_first(_brightness(frames))
    depth = _pairs_with_first(geometry.depth)
    intrinsics = _pairs_with_first(geometry.intrinsics)
    start = geometry.cam_from_world[:, 1:].reshape(others, 3, 4)
    # On a CPU pair by pair, each from an address of its own: the same to the last bit in any batch.
    step = 1 if depth.device.type == "cpu" else others
    inputs = zip(*(part.split(step) for part in (brightness, depth, intrinsics, start)), strict=True)
    results = [_align(*(part.clone() for part in parts)) for parts in inputs]
    camera, log_correction, is_better = (torch.cat(parts) for parts in zip(*results, strict=True))
    is_better &= (depth > 0).flatten(1).all(dim=1)
    is_same = (frames[:, 1:] == frames[:, :1]).flatten(2).all(dim=2).flatten()
    camera = torch.where(is_better[:, None, None], camera, start)
    moved = torch.where(is_better[:, None, None], depth[:, 1] * log_correction.exp(), depth[:, 1])
    first_camera = geometry.cam_from_world[:, :1].expand(-1, views - 1, 3, 4).reshape(others, 3, 4)
    camera = torch.where(is_same[:, None, None], first_camera, camera)
    moved = torch.where(is_same[:, None, None], depth[:, 0], moved)
    return replace(
        geometry,
        depth=torch.cat([geometry.depth[:, :1], moved.unflatten(0, (scenes, views - 1))], dim=1),
        cam_from_world=torch.cat(
            [geometry.cam_from_world[:, :1], camera.unflatten(0, (scenes, views - 1))], dim=1
        ),
    )


def _align(
    brightness: Float[Tensor, "pairs 2 height width"],
    depth: Float[Tensor, "pairs 2 height width"],
    intrinsics: Float[Tensor, "pairs 2 3 3"],
    start: Float[Tensor, "pairs 3 4"],
) -> tuple[Float[Tensor, "pairs 3 4"], Float[Tensor, "pairs height width"], Bool[Tensor, " pairs"]]:
    """Camera of each second view from its first, correction of its log depth, and whether they are better."""
    size = depth.shape[-2:]
    unit = _middle(depth[:, 0].flatten(1)).clamp(min=torch.finfo(depth.dtype).tiny)
    log_depth = (depth / unit[..., None, None]).clamp(min=MIN_DEPTH).log()
    first = _Motion(start[..., :3], start[..., 3] / unit, torch.zeros_like(unit[:, 0]))
    motion = first
    reduction = max(1, round(max(size) / FINE_SIZE_PX))
    for factor in (2 * reduction, reduction):
        level = _reduced(brightness, log_depth, intrinsics, factor)
        for _ in range(STEPS_PER_LEVEL):
            motion = _step(level, motion)
    is_better = _cost_ratio(level, motion, first) < MAX_COST_RATIO
    correction = _smooth_correction(level, motion)
    correction = F.interpolate(correction[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    camera = torch.cat([motion.rotation, (motion.translation * unit)[..., None]], dim=-1)
    return camera, correction, is_better


def _step(level: _Level, motion: _Motion) -> _Motion:
    """One Gauss-Newton step of the seven numbers, with weights of the residuals as they are now."""
    residuals = _residuals(level, motion)
    jacobian = _jacobian(level, residuals)
    weighted = jacobian * _weights(residuals).flatten(1)[:, None]
    residual = residuals.value.flatten(1)
    expected = [EXPECTED_STEP] * 3 + [EXPECTED_TURN_RAD] * 3 + [EXPECTED_LOG_FACTOR]
    prior = weighted.new_tensor(expected, dtype=torch.float64) ** -2
    hessian = torch.bmm(weighted, jacobian.mT).double() + torch.diag(prior)
    gradient = torch.bmm(weighted, residual[..., None])[..., 0].double()
    pull = torch.cat([torch.zeros_like(gradient[:, :6]), motion.log_factor[:, None] * prior[6]], dim=1)
    factor, _ = torch.linalg.cholesky_ex(hessian)  # what is not finite stays so, and is refused at the end
    step = -torch.cholesky_solve((gradient + pull)[..., None], factor)[..., 0].to(weighted.dtype)
    turn = _rotation_of(step[:, 3:6])
    return _Motion(
        rotation=rotate(turn[:, None], motion.rotation.mT).mT,
        translation=rotate(turn, motion.translation) + step[:, :3],
        log_factor=motion.log_factor + step[:, 6],
    )


def _residuals(level: _Level, motion: _Motion) -> _Residuals:
    point = _moved(motion, level.points)
    pixel, is_seen = _pixels(point, level.intrinsics[:, 1], level.maps.shape[-2:])
    sampled = _sample(level.maps, pixel)
    log_depth = sampled[:, 1] + motion.log_factor[:, None] - point[:, 2].log()
    return _Residuals(
        value=torch.stack([sampled[:, 0] - level.brightness, log_depth], dim=1),
        is_seen=is_seen[:, None],
        point=point,
        slopes=(sampled[:, 2:4], sampled[:, 4:6]),
    )


def _jacobian(level: _Level, residuals: _Residuals) -> Float[Tensor, "pairs 7 both_pixels"]:
    """Derivatives of all residuals, brightness first, by (translation, rotation, log factor)."""
    x, y, depth = residuals.point[:, :, None].unbind(1)
    focal = level.intrinsics[:, 1].diagonal(dim1=-2, dim2=-1)[:, :, None, None]
    zero, one = torch.zeros_like(depth), torch.ones_like(depth)
    by_x = residuals.slopes[0] * focal[:, 0] / depth
    by_y = residuals.slopes[1] * focal[:, 1] / depth
    by_z = torch.cat([zero, -1 / depth], dim=1) - (by_x * x + by_y * y) / depth
    turning = [y * by_z - depth * by_y, depth * by_x - x * by_z, x * by_y - y * by_x]
    return torch.stack([by_x, by_y, by_z, *turning, torch.cat([zero, one], dim=1)], dim=1).flatten(2)


def _weights(residuals: _Residuals) -> Float[Tensor, "pairs 2 pixels"]:
    """Inverse variance times Student's (ν + 1) / (ν + (r/σ)²); 0 where a point is not seen."""
    spread = _spreads(residuals)
    weight = residuals.is_seen * (FREEDOM + 1) / (FREEDOM + (residuals.value / spread) ** 2) / spread**2
    return weight * weight.new_tensor([1.0, DEPTH_WEIGHT])[:, None]


def _cost_ratio(level: _Level, motion: _Motion, start: _Motion) -> Float[Tensor, " pairs"]:
    """Cost of a motion over the start's, at points that both see, by the motion's spreads; 1 for 0 / 0."""
    after, before = _residuals(level, motion), _residuals(level, start)
    is_seen = (after.is_seen & before.is_seen)[:, 0]
    spread = _spreads(after)
    share = spread.new_tensor([1.0, DEPTH_WEIGHT])[:, None]

    def cost(residuals: _Residuals) -> Tensor:
        terms = share * torch.log1p((residuals.value / spread) ** 2 / FREEDOM)
        return torch.where(is_seen, terms.sum(dim=1), 0.0).sum(dim=1)

    cost_after, cost_before = cost(after), cost(before)
    is_perfect = cost_before == 0
    return torch.where(is_perfect, 1.0, cost_after / torch.where(is_perfect, 1.0, cost_before))


def _smooth_correction(level: _Level, motion: _Motion) -> Float[Tensor, "pairs height width"]:
    """What to add to the second view's log depth: the factor, and the smooth part of what is left."""
    height, width = level.log_depth.shape[-2:]
    back = _Motion(
        rotation=motion.rotation.mT,
        translation=-rotate(motion.rotation.mT, motion.translation),
        log_factor=motion.log_factor,
    )
    correction = motion.log_factor[:, None, None].expand(-1, height, width)
    for _ in range(CORRECTION_STEPS):
        points = _points(level.log_depth[:, 1] + correction, level.intrinsics[:, 1])
        point = _moved(back, points)
        pixel, is_seen = _pixels(point, level.intrinsics[:, 0], level.log_depth.shape[-2:])
        left = _sample(level.log_depth[:, :1], pixel)[:, 0] - point[:, 2].log()
        spread = _spread(left, is_seen).clamp(min=MIN_LOG_DEPTH_SPREAD)
        weight = is_seen / (1 + (left / (CORRECTION_CUT * spread)) ** 2) ** 2
        weight, left = weight.unflatten(1, (height, width)), left.unflatten(1, (height, width))
        correction = correction + _blurred(weight * left) / (_blurred(weight) + CORRECTION_FLOOR)
    return correction


def _spreads(residuals: _Residuals) -> Float[Tensor, "pairs 2 1"]:
    spread = _spread(residuals.value, residuals.is_seen)
    return torch.maximum(spread, spread.new_tensor([MIN_BRIGHTNESS_SPREAD, MIN_LOG_DEPTH_SPREAD])[:, None])


def _spread(
    residual: Float[Tensor, "*pairs pixels"], is_seen: Bool[Tensor, "*#pairs pixels"]
) -> Float[Tensor, "*pairs 1"]:
    """Robust standard deviation about 0; infinite where no point is seen, so that nothing counts."""
    middle = torch.where(is_seen, residual.abs(), torch.nan).nanmedian(dim=-1, keepdim=True).values
    return MAD_TO_SIGMA * torch.where(is_seen.any(dim=-1, keepdim=True), middle, torch.inf)


def _middle(values: Float[Tensor, "pairs pixels"]) -> Float[Tensor, "pairs 1"]:
    return values.median(dim=1, keepdim=True).values  # the lower one of an even number


def _brightness(
    frames: Float[Tensor, "scenes views 3 height width"],
) -> Float[Tensor, "scenes views height width"]:
    red, green, blue = frames.unbind(2)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _pairs_with_first(values: Float[Tensor, "scenes views *rest"]) -> Float[Tensor, "pairs 2 *rest"]:
    """(first view, other view) for each other view of each scene."""
    first = values[:, :1].expand_as(values[:, 1:])
    return torch.stack([first, values[:, 1:]], dim=2).flatten(0, 1)


def _reduced(
    brightness: Float[Tensor, "pairs 2 height width"],
    log_depth: Float[Tensor, "pairs 2 height width"],
    intrinsics: Float[Tensor, "pairs 2 3 3"],
    factor: int,
) -> _Level:
    """Means over squares of ``factor`` pixels (a rest at the right and the bottom is left out)."""
    focal = intrinsics[..., :2, :2] / factor
    centre = (intrinsics[..., :2, 2:] + 0.5) / factor - 0.5
    rows = torch.cat([focal, centre], dim=-1)
    intrinsics = torch.cat([rows, intrinsics[..., 2:, :]], dim=-2)
    brightness, log_depth = F.avg_pool2d(brightness, factor), F.avg_pool2d(log_depth, factor)
    maps = torch.stack([brightness[:, 1], log_depth[:, 1]], dim=1)
    return _Level(
        brightness=brightness[:, 0].flatten(1),
        points=_points(log_depth[:, 0], intrinsics[:, 0]),
        maps=torch.cat([maps, *_slopes(maps)], dim=1),
        log_depth=log_depth,
        intrinsics=intrinsics,
    )


def _points(
    log_depth: Float[Tensor, "pairs height width"], intrinsics: Float[Tensor, "pairs 3 3"]
) -> Float[Tensor, "pairs 3 pixels"]:
    """Points in the view's own camera; as ``unproject_depth`` without skew, coordinates in rows."""
    depth = log_depth.exp()
    v, u = (torch.arange(n, dtype=depth.dtype, device=depth.device) for n in depth.shape[-2:])
    per_view = intrinsics[..., None, None]
    x = (u - per_view[:, 0, 2]) / per_view[:, 0, 0] * depth
    y = (v[:, None] - per_view[:, 1, 2]) / per_view[:, 1, 1] * depth
    return torch.stack([x, y, depth], dim=1).flatten(2)


def _moved(motion: _Motion, points: Float[Tensor, "pairs 3 pixels"]) -> Float[Tensor, "pairs 3 pixels"]:
    """Coordinates in the other camera; depth at least MIN_DEPTH."""
    x, y, z = points[:, :, None].unbind(1)
    by_x, by_y, by_z = motion.rotation[..., None].unbind(2)
    moved = by_x * x + by_y * y + by_z * z + motion.translation[..., None]
    moved[:, 2].clamp_(min=MIN_DEPTH)
    return moved


def _pixels(
    point: Float[Tensor, "pairs 3 pixels"],
    intrinsics: Float[Tensor, "pairs 3 3"],
    size: torch.Size | tuple[int, int],
) -> tuple[Float[Tensor, "pairs pixels 2"], Bool[Tensor, "pairs pixels"]]:
    """Where points fall, as ``grid_sample`` counts ([-1, 1] from the first to the last pixel's centre)."""
    height, width = size
    x, y, depth = point.unbind(1)
    u = intrinsics[:, 0, 0, None] * x / depth + intrinsics[:, 0, 2, None]
    v = intrinsics[:, 1, 1, None] * y / depth + intrinsics[:, 1, 2, None]
    is_seen = (depth > MIN_DEPTH) & (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    return torch.stack([u * (2 / (width - 1)) - 1, v * (2 / (height - 1)) - 1], dim=-1), is_seen


def _sample(
    maps: Float[Tensor, "pairs maps height width"], pixel: Float[Tensor, "pairs pixels 2"]
) -> Float[Tensor, "pairs maps pixels"]:
    return F.grid_sample(maps, pixel[:, None], align_corners=True, padding_mode="border")[:, :, 0]


def _slopes(
    maps: Float[Tensor, "pairs maps height width"],
) -> tuple[Float[Tensor, "pairs maps height width"], Float[Tensor, "pairs maps height width"]]:
    """Central differences along u and v, a pixel."""
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    along_u = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return along_u, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _blurred(values: Float[Tensor, "pairs height width"]) -> Float[Tensor, "pairs height width"]:
    """Three box filters along each axis; beyond the border lies 0."""
    half = CORRECTION_WINDOW_PX // 2
    for _ in range(3):
        values = F.avg_pool2d(values, (1, CORRECTION_WINDOW_PX), stride=1, padding=(0, half))
        values = F.avg_pool2d(values, (CORRECTION_WINDOW_PX, 1), stride=1, padding=(half, 0))
    return values


def _rotation_of(vector: Float[Tensor, "pairs 3"]) -> Float[Tensor, "pairs 3 3"]:
    """Rotation by |vector| rad about it (Rodrigues)."""
    angle = vector.norm(dim=-1)[:, None, None]
    safe = angle.clamp(min=torch.finfo(vector.dtype).eps)
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    squared = vector[:, :, None] * vector[:, None, :] - angle**2 * torch.eye(
        3, dtype=vector.dtype, device=vector.device
    )
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    # (1 − cos a) / a² as ½ (sin(a/2) / (a/2))², which loses no digits for small angles.
    half_sine = torch.sin(safe / 2) / (safe / 2)
    return identity + torch.sin(safe) / safe * cross + half_sine**2 / 2 * squared
