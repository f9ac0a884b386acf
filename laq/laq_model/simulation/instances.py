"""Which thing each pixel shows: bodies of the simulator by number, and the kind of thing each body is.

Kinds are what all scenes share: the room, its furniture, an arm, its hand, and objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("room", "furniture", "arm", "hand", "object")
MAX_BODIES = 255
_KIND_BY_NAME = {
    "world": "room",
    "RetainingWall": "room",
    "tablelink": "furniture",
    "table": "furniture",
    "furniture": "furniture",
    "base": "arm",
    "forearm": "arm",
    "hand": "hand",
}


def kinds_of_bodies(model: Any) -> NDArray[np.uint8]:
    """Index into ``KINDS`` for each body, [bodies]: its own name's, else its parent's; objects by default."""
    kinds = np.full(model.nbody, KINDS.index("object"), dtype=np.uint8)
    is_named = np.zeros(model.nbody, dtype=bool)
    for body in range(model.nbody):
        name = model.body(body).name
        kind = _KIND_BY_NAME.get(name) or _KIND_BY_NAME.get(name.split("_")[0])
        parent = int(model.body_parentid[body])
        if kind is not None:
            kinds[body], is_named[body] = KINDS.index(kind), True
        elif parent != 0 and is_named[parent]:
            kinds[body], is_named[body] = kinds[parent], True
    return kinds


def bodies_of_pixels(model: Any, segmentation: NDArray[np.int32], geom_type: int) -> NDArray[np.uint8]:
    """Body of each pixel [height, width], from MuJoCo's (object, type) pairs; no geom: the world, 0."""
    shown, kind = segmentation[..., 0], segmentation[..., 1]
    is_geom = kind == geom_type
    bodies = np.where(is_geom, model.geom_bodyid[np.where(is_geom, shown, 0)], 0)
    return bodies.astype(np.uint8)
