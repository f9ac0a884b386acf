"""Sheets of pictures: what became of every pixel, and colours that stand where they should."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from wall_and_box import CONFIG, SIZE_PX, observe, wall

from laq_model.errors import RunError
from laq_model.report.camera_file import SeenFrame, write_camera_file
from laq_model.report.changed_cells import APPEARED, NO_CELL, SAME, VANISHED, find_changed_cells
from laq_model.report.frame_sheet import IN_CLOUD, point_counts, write_frame_sheet
from laq_model.report.overlay_sheet import COLOUR_OF_KIND, highlight, write_overlay_sheet
from laq_model.report.sheet import Sheet


def levels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def panel(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture[
        row * height // 2 : (row + 1) * height // 2, column * width // 4 : (column + 1) * width // 4
    ]


def count(picture: np.ndarray, colour: tuple[float, float, float]) -> int:
    return int((picture == np.round(np.array(colour) * 255)).all(axis=-1).sum())


def test_every_pixel_is_counted_once_with_its_reason():
    depth = wall(box_column=4)
    depth[0, :5] = 0.0
    depth[27, 20:24] = 30.0  # a hole to the far, outside the box
    scene = observe(depth, wall())
    counts = point_counts(scene, 0, half_extent_m=CONFIG.half_extent_m)
    assert counts["no depth"] == 5
    # The box has a rim of 20 of its own pixels and 24 of the wall's; the hole is 4 pixels of edge, with 4 of
    # the wall above it and one at each side.
    assert counts["low confidence or depth edge"] == 20 + 24 + 4 + 6
    assert counts["outside the box"] == 0
    assert sum(counts.values()) == SIZE_PX**2
    assert counts[IN_CLOUD] == int(scene.cloud.offset[0])


def test_counts_of_all_views_are_those_of_the_encoder():
    far = wall()
    far[:, 14:] = 3.0
    scene = observe(wall(box_column=4), far)
    views = [point_counts(scene, view, half_extent_m=CONFIG.half_extent_m) for view in range(2)]
    assert views[1]["outside the box"] == SIZE_PX * 13  # without the column at the edge
    total = {reason: views[0][reason] + views[1][reason] for reason in views[0]}
    assert total["low confidence or depth edge"] == scene.num_dropped["low confidence or depth edge"]
    assert total["no depth"] == scene.num_dropped["no depth"]
    assert (
        total["outside the box"] + total["same voxel, or above max_points"]
        == scene.num_dropped["same voxel, outside the box or above max_points"]
    )


def test_frame_sheet_shows_the_frame_and_its_cloud_in_their_colours(tmp_path):
    color = torch.zeros(1, 1, 3, SIZE_PX, SIZE_PX)
    color[0, 0, 0], color[0, 0, 2] = 1.0, 0.6  # no map of matplotlib's has this pink
    write_frame_sheet(tmp_path / "s.png", observe(wall(), color=color), view=0, title="a wall", config=CONFIG)
    picture = levels((tmp_path / "s.png").read_bytes())
    pink = {(r, c): count(panel(picture, r, c), (1.0, 0.0, 0.6)) for r in range(2) for c in range(4)}
    assert pink[0, 0] > 100_000  # a panel's picture has 363 x 363 pixels
    assert pink[0, 1] == pink[0, 2] == pink[0, 3] == pink[1, 3] == 0
    # From the front the wall fills its square; from the side and from above it is a line.
    assert pink[1, 0] > 5 * pink[1, 1] > 0
    assert pink[1, 0] > 5 * pink[1, 2] > 0


def test_overlay_marks_what_moved_and_nothing_else(tmp_path):
    marked = []
    for second in (17, 4):
        scene = observe(wall(box_column=4), wall(box_column=second))
        changed = find_changed_cells(scene, CONFIG)
        write_overlay_sheet(
            tmp_path / "o.png", scene, changed, title="t", frame_names=("frame 0", "frame 5"), config=CONFIG
        )
        picture = levels((tmp_path / "o.png").read_bytes())
        marked.append(
            [
                count(panel(picture, row, column), COLOUR_OF_KIND[kind])
                for row, column, kind in (
                    (0, 2, VANISHED),
                    (0, 3, APPEARED),
                    (1, 0, VANISHED),
                    (1, 0, APPEARED),
                )
            ]
        )
        assert count(panel(picture, 0, 2), COLOUR_OF_KIND[APPEARED]) == 0
    # 16 pixels of the box lie off its rim, each of (363 / 28)² ≈ 168 pixels of the sheet.
    assert all(2_400 < pixels < 2_900 for pixels in marked[0][:2])
    assert all(pixels > 100 for pixels in marked[0][2:])
    assert marked[1] == [0, 0, 0, 0]


def test_highlight_colours_what_changed_and_greys_the_rest():
    color = torch.tensor([[0.2, 0.4, 0.6]]).expand(3, 3)
    kind = torch.tensor([VANISHED, SAME, NO_CELL])
    own = highlight(color, kind, fade=False)
    torch.testing.assert_close(own[0], torch.tensor(COLOUR_OF_KIND[VANISHED]))
    torch.testing.assert_close(own[1:], color[1:])
    faded = highlight(color, kind, fade=True)
    torch.testing.assert_close(faded[1], torch.full((3,), 0.35 + 0.35 * 0.4))
    torch.testing.assert_close(faded[2], torch.full((3,), 0.76 + 0.16 * 0.4))


def test_a_map_of_one_value_or_none_is_drawn_all_the_same():
    sheet = Sheet("t", rows=1, columns=2)
    sheet.map("flat", np.full((4, 4), 2.0), is_valid=np.full((4, 4), True), unit="m", colours="viridis")
    sheet.map("none", np.zeros((4, 4)), is_valid=np.full((4, 4), False), unit="m", colours="viridis")
    picture = levels(sheet.png())
    half = picture.shape[1] // 2
    assert count(picture[:, half:], (0xD8 / 255, 0xD8 / 255, 0xDE / 255)) > 100_000  # the colour of missing
    assert count(picture[:, :half], (0xD8 / 255, 0xD8 / 255, 0xDE / 255)) < 5_000


def test_camera_file_gives_every_number_back_and_says_its_units(tmp_path):
    scene = observe(wall(), wall(), camera_x_m=[0.0, 0.123456789])
    frames = [SeenFrame(3, 0.3, (8, 0, 48), "frame_000003.ply"), SeenFrame(9, 0.9, (8, 0, 48), "b.ply")]
    write_camera_file(tmp_path / "c.json", scene, frames, video="clip.webm", geometry="sensor")
    record = json.loads((tmp_path / "c.json").read_text())
    assert record["units"] == "metres"
    assert (record["width_px"], record["height_px"]) == (SIZE_PX, SIZE_PX)
    assert [frame["frame"] for frame in record["frames"]] == [3, 9]
    assert record["frames"][0]["cut_from_video_px"] == {"left": 8, "top": 0, "side": 48}
    for view, frame in enumerate(record["frames"]):
        given = torch.tensor(frame["cam_from_world"])
        torch.testing.assert_close(given, scene.geometry.cam_from_world[0, view], rtol=0, atol=0)
        torch.testing.assert_close(
            torch.tensor(frame["intrinsics"]), scene.geometry.intrinsics[0, view], rtol=0, atol=0
        )


def test_a_sheet_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match=r"cannot write .*s\.png \(.+\); choose another --output, or make room"
    ):
        write_frame_sheet(tmp_path / "file" / "s.png", observe(wall()), view=0, title="t", config=CONFIG)
