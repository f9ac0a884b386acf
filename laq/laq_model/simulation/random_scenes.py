"""Scenes that no task knows: a table or a room with random shapes, of which a hand and some others move.

What Meta-World's fifty tasks share (one table, one robot, one wall) a network would take for granted; here
sizes, places, textures and what moves are drawn. World as in ``camera_paths``: z up, metres, the middle of
what there is to see near (0, 0.6, 0). The motion is given, not simulated: nothing collides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from .camera_paths import CameraRanges, smooth_noise
from .render import CAMERA
from .simulator import load_mujoco

RANDOM_SCENES = {
    "tabletop": CameraRanges(
        azimuth_deg=(0.0, 360.0),
        elevation_deg=(18.0, 58.0),
        radius_m=(0.7, 1.5),
        target_m=(0.0, 0.6, 0.06),
        target_spread_m=0.12,
        vertical_fov_deg=(38.0, 66.0),
    ),
    "room": CameraRanges(
        azimuth_deg=(0.0, 360.0),
        elevation_deg=(12.0, 45.0),
        radius_m=(1.5, 2.4),
        target_m=(0.0, 0.6, 0.3),
        target_spread_m=0.25,
        vertical_fov_deg=(42.0, 70.0),
    ),
}
"""Each kind of scene, and where cameras look at it from."""
_MIDDLE = (0.0, 0.6)
_SHAPES = ("box", "sphere", "cylinder", "capsule", "ellipsoid")
_PATTERNS = ("flat", "checker", "gradient")
_NUM_MATERIALS = 12


@dataclass(frozen=True)
class RandomScene:
    """A model and its states.

    Attributes:
        model: the simulator's model; its camera is the one that ``SceneRenderer`` moves.
        qpos: [frames, positions], a position and a scalar-first quaternion for each body that moves.
    """

    model: Any
    qpos: NDArray[np.float64]


def random_scene(kind: str, rng: np.random.Generator, *, num_frames: int) -> RandomScene:
    """Draw a ``tabletop`` or a ``room``, and how its things move.

    Raises:
        ConfigError: the simulator is not installed.
    """
    mujoco = load_mujoco()
    root = Element("mujoco")
    SubElement(SubElement(root, "option"), "flag", contact="disable")
    SubElement(SubElement(root, "visual"), "map", znear="0.02", zfar="40")
    _add_materials(SubElement(root, "asset"), rng)
    world = SubElement(root, "worldbody")
    SubElement(world, "camera", name=CAMERA)
    for _ in range(int(rng.integers(1, 4))):
        place = _text([*rng.uniform(-1.5, 1.5, 2), rng.uniform(1.5, 3.0)])
        SubElement(world, "light", pos=place, dir="0 0 -1", castshadow=str(rng.random() < 0.5).lower())
    drawn = _add_tabletop(world, rng) if kind == "tabletop" else _add_room(world, rng)
    model = mujoco.MjModel.from_xml_string(tostring(root, encoding="unicode"))
    return RandomScene(model, _motion(drawn, rng, num_frames))


@dataclass(frozen=True)
class _Movable:
    """A body with a free joint: where it rests, how far it wanders, and whether the hand carries it."""

    rest_m: NDArray[np.float64]
    reach_m: float
    turn_rad: float
    is_carried: bool = False


def _add_tabletop(world: Element, rng: np.random.Generator) -> list[_Movable]:
    """A table, walls at some sides, clutter on the table, a hand above it; the table's top is at z = 0."""
    half = np.array([rng.uniform(0.45, 0.9), rng.uniform(0.35, 0.6), rng.uniform(0.015, 0.05)])
    table = SubElement(world, "body", name="table", pos=_text([*_MIDDLE, -half[2]]))
    _geom(table, rng, "box", half)
    _add_floor_and_walls(world, rng, floor_m=rng.uniform(-0.9, -0.4), nearest_m=1.0, farthest_m=3.0)
    movables = [_add_hand(world, rng)]
    for number in range(int(rng.integers(4, 12))):
        size = rng.uniform(0.015, 0.08)
        place = np.array([*(np.array(_MIDDLE) + 0.75 * half[:2] * rng.uniform(-1, 1, 2)), size])
        movables += _add_object(world, rng, number, place, size)
    return movables


def _add_room(world: Element, rng: np.random.Generator) -> list[_Movable]:
    """A floor with furniture and smaller things, some of them in the air, walls around; perhaps a hand."""
    _add_floor_and_walls(world, rng, floor_m=0.0, nearest_m=1.4, farthest_m=3.5)
    for number in range(int(rng.integers(2, 6))):
        half = rng.uniform(0.12, 0.35, 3)
        place = [*(np.array(_MIDDLE) + rng.uniform(-0.9, 0.9, 2)), half[2]]
        body = SubElement(world, "body", name=f"furniture_{number}", pos=_text(place), euler=_yaw(rng))
        _geom(body, rng, str(rng.choice(["box", "cylinder"])), half)
    movables = [_add_hand(world, rng)] if rng.random() < 0.5 else []
    for number in range(int(rng.integers(4, 9))):
        size = rng.uniform(0.04, 0.15)
        middle_m = np.array([*(np.array(_MIDDLE) + rng.uniform(-0.7, 0.7, 2)), rng.uniform(size, 0.7)])
        movables += _add_object(world, rng, number, middle_m, size)
    return movables


def _add_floor_and_walls(
    world: Element, rng: np.random.Generator, *, floor_m: float, nearest_m: float, farthest_m: float
) -> None:
    _geom(world, rng, "plane", [6.0, 6.0, 0.1], pos=[0.0, 0.0, floor_m])
    for angle in np.arange(4) * np.pi / 2 + rng.uniform(-0.3, 0.3):
        if rng.random() < 0.75:
            distance = rng.uniform(nearest_m, farthest_m)
            place = [_MIDDLE[0] + distance * np.cos(angle), _MIDDLE[1] + distance * np.sin(angle), floor_m]
            # A wall that a camera stands behind would fill the picture: planes are seen from one side only.
            _geom(
                world, rng, "plane", [3.0, 4.0, 0.1], pos=place, zaxis=[-np.cos(angle), -np.sin(angle), 0.0]
            )
            if rng.random() < 0.4:
                name, turn = f"furniture_wall_{angle:.2f}", _text([0.0, 0.0, np.degrees(angle)])
                shelf = SubElement(world, "body", name=name, pos=_text(place), euler=turn)
                _geom(shelf, rng, "box", rng.uniform([0.1, 0.3, 0.3], [0.3, 1.0, 1.5]))


def _add_object(
    world: Element, rng: np.random.Generator, number: int, place: NDArray[np.float64], size: float
) -> list[_Movable]:
    """One or two shapes on one body; one in four bodies moves."""
    is_moving = rng.random() < 0.25
    body = SubElement(world, "body", name=f"object_{number}", pos="0 0 0" if is_moving else _text(place))
    if is_moving:
        SubElement(body, "freejoint")
    else:
        body.set("euler", _yaw(rng))
    half = size * rng.uniform(0.5, 1.3, 3)
    _geom(body, rng, str(rng.choice(_SHAPES)), half)
    if rng.random() < 0.4:
        _geom(body, rng, str(rng.choice(_SHAPES)), 0.6 * half, pos=size * rng.uniform(-1, 1, 3))
    if not is_moving:
        return []
    return [_Movable(place, reach_m=3 * size, turn_rad=0.6, is_carried=bool(rng.random() < 0.5))]


def _add_hand(world: Element, rng: np.random.Generator) -> _Movable:
    """Palm, two fingers and a forearm that leaves the picture; local z points along the forearm."""
    hand = SubElement(world, "body", name="hand")
    SubElement(hand, "freejoint")
    width = rng.uniform(0.03, 0.06)
    _geom(hand, rng, str(rng.choice(["box", "cylinder", "ellipsoid"])), [width, 0.6 * width, 0.8 * width])
    opening, length = rng.uniform(0.2, 0.9) * width, rng.uniform(0.8, 1.5) * width
    finger = [0.2 * width, 0.3 * width, length]
    for side in (-1, 1):
        _geom(hand, rng, "box", finger, pos=[side * opening, 0.0, -0.8 * width - length])
    forearm = SubElement(hand, "body", name="forearm")
    radius = rng.uniform(0.6, 1.1) * width
    _geom(forearm, rng, "capsule", [radius, 0.5, 0.0], pos=[0.0, 0.0, 0.5 + 0.8 * width])
    rest = np.array([*_MIDDLE, 0.0]) + rng.uniform([-0.25, -0.2, 0.12], [0.25, 0.2, 0.35])
    return _Movable(rest, reach_m=0.15, turn_rad=0.35)


def _motion(movables: Sequence[_Movable], rng: np.random.Generator, num_frames: int) -> NDArray[np.float64]:
    """Smooth wandering and turning about the rest pose; what is carried wanders as the first body does."""
    poses: list[NDArray[np.float64]] = []
    carrier = smooth_noise(rng, num_frames, 3)
    for movable in movables:
        wander = smooth_noise(rng, num_frames, 6)
        shift = carrier if movable.is_carried or not poses else wander[:, :3]
        reach = movables[0].reach_m if movable.is_carried else movable.reach_m
        start = smooth_noise(rng, 2, 3)[0]
        half_turn = 0.5 * movable.turn_rad * (wander[:, 3:] + start)
        quaternion = np.concatenate([np.ones((num_frames, 1)), half_turn], axis=1)
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        poses.append(np.concatenate([movable.rest_m + reach * shift, quaternion], axis=1))
    return np.concatenate(poses, axis=1) if poses else np.zeros((num_frames, 0))


def _add_materials(asset: Element, rng: np.random.Generator) -> None:
    for number in range(_NUM_MATERIALS):
        for kind in ("2d", "cube"):
            SubElement(
                asset,
                "texture",
                name=f"{kind}_{number}",
                type=kind,
                builtin=str(rng.choice(_PATTERNS)),
                rgb1=_text(rng.uniform(0.2, 1, 3)),
                rgb2=_text(rng.uniform(0.2, 1, 3)),
                mark=str(rng.choice(["none", "edge", "cross", "random"])),
                markrgb=_text(rng.uniform(0, 1, 3)),
                random=f"{rng.uniform(0.005, 0.05):.4f}",
                width="96",
                height="96" if kind == "2d" else "576",
            )
            SubElement(
                asset,
                "material",
                name=f"{kind}_{number}",
                texture=f"{kind}_{number}",
                texrepeat=_text(rng.uniform(1, 9, 2)),
                specular=f"{rng.uniform(0, 0.8):.3f}",
                shininess=f"{rng.uniform(0, 0.8):.3f}",
                reflectance="0",
            )


def _geom(
    parent: Element,
    rng: np.random.Generator,
    shape: str,
    size: Sequence[float] | NDArray[np.float64],
    **places: Sequence[float] | NDArray[np.float64],
) -> None:
    kind = "2d" if shape == "plane" else "cube"
    material = f"{kind}_{int(rng.integers(_NUM_MATERIALS))}"
    geom = SubElement(parent, "geom", type=shape, size=_text(size), material=material)
    for name, value in places.items():
        geom.set(name, _text(value))


def _yaw(rng: np.random.Generator) -> str:
    return _text([0.0, 0.0, rng.uniform(0, 360)])


def _text(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{number:.5f}" for number in numbers)
