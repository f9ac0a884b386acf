"""The view of a scene holds every point of its frames, and what changed."""

import base64
import re

import numpy as np
import pytest
from wall_and_box import CONFIG, observe, wall

from laq_model.report.changed_cells import APPEARED, VANISHED, find_changed_cells
from laq_model.report.html_page import page_html
from laq_model.report.overlay_sheet import COLOUR_OF_KIND
from laq_model.report.scene_view import scene_view


def test_two_frames_and_what_changed():
    scene = observe(wall(box_column=4), wall(box_column=17))
    view = scene_view(scene, ["frame 0", "frame 5"], title="v", config=CONFIG)
    assert [(cloud.name, cloud.is_shown) for cloud in view.clouds] == [
        ("frame 0", True),
        ("frame 5", False),
        ("what changed", True),
    ]
    end = int(scene.cloud.offset[0])
    assert view.clouds[0].coord.tolist() == scene.cloud.coord_m[:end].tolist()
    assert view.clouds[1].coord.tolist() == scene.cloud.coord_m[end:].tolist()
    kind = find_changed_cells(scene, CONFIG).kind_of_point
    assert len(view.clouds[2].coord) == int(((kind == VANISHED) | (kind == APPEARED)).sum()) > 0
    colors = {tuple(np.round(color, 2)) for color in view.clouds[2].color.tolist()}
    assert colors == {COLOUR_OF_KIND[VANISHED], COLOUR_OF_KIND[APPEARED]}
    assert "free, then occupied" in view.text


def test_one_frame_has_no_changes_to_explain():
    view = scene_view(observe(wall()), ["frame 0"], title="v", config=CONFIG)
    assert [cloud.name for cloud in view.clouds] == ["frame 0"]
    assert "occupied" not in view.text


def test_it_starts_as_the_camera_looks():
    """The levelled world's y is the camera's heading, so the view needs no turn and x goes to the right."""
    view = scene_view(observe(wall(box_column=17)), ["frame 0"], title="v", config=CONFIG)
    assert view.heading == pytest.approx((0.0, 1.0))
    page = page_html(title="p", sections=[view])
    assert re.search(r'data-turn="(-?[0-9.]+)"', page)[1].lstrip("-") == "0.0000"
    data = base64.b64decode(re.search(r'data-coord="([^"]+)"', page)[1])
    away = np.frombuffer(data, "<i2").reshape(-1, 3)[:, 1]
    assert away.min() < -5_000  # the box, nearer than the wall
