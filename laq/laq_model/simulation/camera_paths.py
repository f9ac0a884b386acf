"""Where the camera stands in each frame of an episode: fixed, or moved like an orbit, by hand or on a dolly.

World: z up, metres; the table's middle is near (0, 0.6, 0), the robot stands at the origin and the cameras on
the other side of the table (azimuth from the x axis, counter-clockwise). Cameras have OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOVES = ("orbit", "handheld", "dolly")


@dataclass(frozen=True)
class CameraPath:
    """One camera through an episode.

    Attributes:
        cam_from_world: [frames, 4, 4], OpenCV axes, metres.
        intrinsics: [3, 3], square pixels, integer pixel centres, for images of ``size`` pixels.
        move: fixed, orbit, handheld or dolly.
    """

    cam_from_world: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    move: str


@dataclass(frozen=True)
class CameraRanges:
    """From where to where cameras are drawn: degrees and metres about what they look at."""

    azimuth_deg: tuple[float, float] = (25.0, 155.0)
    elevation_deg: tuple[float, float] = (28.0, 52.0)
    radius_m: tuple[float, float] = (0.95, 1.35)
    target_m: tuple[float, float, float] = (0.0, 0.62, 0.12)
    target_spread_m: float = 0.06
    vertical_fov_deg: tuple[float, float] = (42.0, 58.0)


TABLE_FROM_THE_FRONT = CameraRanges()


def draw_path(
    rng: np.random.Generator,
    *,
    num_frames: int,
    size: int,
    move: str,
    ranges: CameraRanges = TABLE_FROM_THE_FRONT,
) -> CameraPath:
    """A random sensible view, by default of the table, kept or moved smoothly through the episode."""
    azimuth_rad = np.radians(rng.uniform(*ranges.azimuth_deg))
    elevation_rad = np.radians(rng.uniform(*ranges.elevation_deg))
    radius_m = rng.uniform(*ranges.radius_m)
    spread = ranges.target_spread_m
    target = np.array(ranges.target_m) + rng.uniform(-spread, spread, 3)
    vertical_fov_rad = np.radians(rng.uniform(*ranges.vertical_fov_deg))
    phase = np.linspace(0, 1, num_frames)
    wobble = smooth_noise(rng, num_frames, 5)
    azimuth, elevation = np.full(num_frames, azimuth_rad), np.full(num_frames, elevation_rad)
    radius, look = np.full(num_frames, radius_m), np.tile(target, (num_frames, 1))
    if move == "orbit":
        sweep = np.radians(rng.uniform(18, 40)) * rng.choice([-1, 1])
        # Sweep toward the middle, so that the robot's back never fills the picture.
        sweep = abs(sweep) if azimuth_rad < np.pi / 2 else -abs(sweep)
        azimuth = azimuth + sweep * phase
        elevation = elevation + np.radians(3) * wobble[:, 0]
    elif move == "handheld":
        azimuth = azimuth + np.radians(6) * wobble[:, 0]
        elevation = elevation + np.radians(4) * wobble[:, 1]
        look = look + 0.035 * wobble[:, 2:5]
    elif move == "dolly":
        radius = radius * np.linspace(1.12, 0.85, num_frames)[:: rng.choice([-1, 1])]
        azimuth = azimuth + np.radians(rng.uniform(-8, 8)) * phase
    elif move != "fixed":
        raise ValueError(f"no camera move {move!r}; choose fixed or one of {', '.join(MOVES)}")
    direction = np.stack(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], axis=-1
    )
    eye = look + radius[:, None] * direction
    return CameraPath(look_at(eye, look), intrinsics_from_fov(vertical_fov_rad, size), move)


def look_at(eye: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera-from-world [frames, 4, 4] of cameras at ``eye`` that look at ``target``, horizon level."""
    forward = target - eye
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    rotation = np.stack([right, down, forward], axis=-2)
    cam_from_world = np.tile(np.eye(4), (len(eye), 1, 1))
    cam_from_world[:, :3, :3] = rotation
    cam_from_world[:, :3, 3] = -np.einsum("fij,fj->fi", rotation, eye)
    return cam_from_world


def intrinsics_from_fov(vertical_fov_rad: float, size: int) -> NDArray[np.float64]:
    """K of a square image; the optical axis meets its middle, (size − 1) / 2 in integer pixel centres."""
    focal_px = size / 2 / np.tan(vertical_fov_rad / 2)
    centre_px = (size - 1) / 2
    return np.array([[focal_px, 0, centre_px], [0, focal_px, centre_px], [0, 0, 1.0]])


def smooth_noise(rng: np.random.Generator, num_frames: int, channels: int) -> NDArray[np.float64]:
    """Noise of unit size that changes over about fifteen frames, [frames, channels]; starts anywhere."""
    knots = max(2, num_frames // 15 + 2)
    values = rng.standard_normal((knots, channels))
    where = np.linspace(0, knots - 1, num_frames)
    low = np.minimum(where.astype(int), knots - 2)
    share = where - low
    share = (share * share * (3 - 2 * share))[:, None]  # smoothstep: no kinks in the velocity
    return values[low] * (1 - share) + values[low + 1] * share
