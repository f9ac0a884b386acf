"""Colours and lights that differ from episode to episode, so that no colour stands for an action."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np


def randomize_appearance(model: Any, rng: np.random.Generator) -> None:
    """Recolour table, floor, robot and objects, and move and dim the lights, in place."""
    for material in range(model.nmat):
        model.mat_rgba[material, :3] = _color(rng, saturation=0.45)
    movable = model.body_parentid  # a geom without material carries its colour itself
    body_color = {body: _color(rng, saturation=0.8) for body in range(len(movable))}
    for geom in range(model.ngeom):
        if model.geom_matid[geom] < 0 and model.geom_rgba[geom, 3] > 0:
            model.geom_rgba[geom, :3] = body_color[int(model.geom_bodyid[geom])]
    model.vis.headlight.ambient[:] = rng.uniform(0.3, 0.5)
    model.vis.headlight.diffuse[:] = rng.uniform(0.3, 0.55)
    for light in range(model.nlight):
        model.light_diffuse[light] = rng.uniform(0.1, 0.6) * (1 + 0.15 * rng.standard_normal(3))
        model.light_pos[light] += rng.uniform(-0.4, 0.4, 3)


def _color(rng: np.random.Generator, *, saturation: float) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0, saturation), rng.uniform(0.45, 1.0))
