"""Rivals of a trained run: other ideas of what an action is, trained on its pairs with its budget.

``pixels`` looks at image patches, as LAPA does, and knows no geometry. ``camera_frame`` is the run itself,
with its features pooled over image patches, and every frame in its own camera's axes: no shared world.
"""

from typing import Literal

Rival = Literal["pixels", "camera_frame"]
RIVALS: tuple[Rival, ...] = ("pixels", "camera_frame")
