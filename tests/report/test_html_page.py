"""The page carries everything in itself, escapes every word, and needs no eyes, mouse or motion."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from laq_model.errors import ConfigError, RunError
from laq_model.report.html_page import page_html, write_page
from laq_model.report.page_sections import Figure, Picture, Row, Table, Words
from laq_model.report.page_viewers import Clip, ClipGallery, ClipGroup, CloudView, NamedCloud

NASTY = "<script>alert('x')</script> & \"quotes\""
VOID = {"meta", "link", "img", "input", "br", "circle", "polyline"}


class Reader(HTMLParser):
    """Elements, words, and whether every tag is closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.words, self.open = [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def with_class(self, name):
        return [a for _, a in self.elements if name in (a.get("class") or "").split()]


def png(colour=(10, 20, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def clip(**changes) -> Clip:
    frames = torch.zeros(3, 24, 32, 3, dtype=torch.uint8)
    frames[0, ..., 0], frames[1, ..., 1], frames[2, ..., 2] = 200, 200, 200
    return Clip(**{"frames": frames, "caption": NASTY, **changes})


def cloud(**changes) -> NamedCloud:
    coord = torch.tensor([[0.6, 0.0, 0.8], [-0.25, 0.5, 0.0]])
    return NamedCloud(**{"name": NASTY, "coord": coord, "color": torch.eye(3)[:2], **changes})


def every_section():
    return [
        Words(NASTY, NASTY),
        Table(NASTY, [NASTY, NASTY], [Row(NASTY, [NASTY]), Row("c", ["1"], is_control=True)], NASTY, NASTY),
        Figure(NASTY, [Picture(png(), NASTY, NASTY), Picture(png(), NASTY, NASTY, is_sheet=True)], NASTY),
        ClipGallery(
            NASTY, [ClipGroup(NASTY, [clip(motion_px=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))])], NASTY
        ),
        CloudView(NASTY, [cloud()], NASTY),
    ]


def whole_page() -> str:
    return page_html(title=NASTY, sections=every_section(), lead=NASTY, footer=NASTY)


def test_every_word_is_escaped_everywhere():
    page = Reader(whole_page())
    assert len(page.all("script")) == 1  # the page's own
    assert page.words.count(NASTY) > 20
    assert {attributes["alt"] for attributes in page.all("img")} == {NASTY}


def test_nothing_is_loaded_from_anywhere():
    text = whole_page()
    page = Reader(text)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\((?!data:)", text)
    links = [a["href"] for tag in ("a", "link") for a in page.all(tag)]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")


def test_contents_lead_to_every_section_even_with_equal_titles():
    page = Reader(whole_page())
    targets = [a["href"][1:] for a in page.all("a")]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert targets == ["content", *(a["id"] for a in page.all("h2"))]


def test_paragraphs_are_parted_by_empty_lines():
    assert "<p>one\ntwo</p>\n<p>three</p>" in page_html(
        title="t", sections=[Words("w", "one\ntwo\n\n three ")]
    )


def test_controls_are_tagged_and_set_back():
    table = Table(
        "t", ["figure", "value"], [Row("probe", ["0.6"]), Row("random codes", ["0.0"], is_control=True)]
    )
    page = Reader(page_html(title="p", sections=[table]))
    assert [a.get("class") for a in page.all("tr")] == [None, None, "control"]
    assert page.words.count("control") == 1
    assert [a["scope"] for a in page.all("th")] == ["col", "col", "row", "row"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"table 'T' has 2 columns of figures, row 'probe' has 1"):
        Table("T", ["figure", "a", "b"], [Row("probe", ["0.6"])])


def test_pictures_travel_unchanged():
    page = Reader(page_html(title="p", sections=[Figure("f", [Picture(png(), "a wall", width_px=123)])]))
    [image] = page.all("img")
    assert base64.b64decode(image["src"].split(",")[1]) == png()
    assert (image["alt"], image["width"]) == ("a wall", "123")


def test_clips_are_strips_of_their_frames():
    [shown] = Reader(
        page_html(title="p", sections=[ClipGallery("g", [ClipGroup("17", [clip()])])])
    ).with_class("clip")
    assert "--frames:3;" in shown["style"]
    assert "aspect-ratio:32/24;" in shown["style"]
    strip = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^)]+)\)", shown["style"])[1])))
    levels = np.asarray(strip.convert("RGB")).astype(int)
    assert levels.shape == (24, 96, 3)
    for number in range(3):  # WebP is lossy; a frame's own colour is within 20 of 200
        expected = np.eye(3)[number] * 200
        assert np.abs(levels[12, 32 * number + 16] - expected).max() < 20


def test_convention_motion_is_drawn_at_pixel_centres():
    motion = torch.tensor([[0.0, 0.0], [31.0, 23.0]])
    page = Reader(
        page_html(title="p", sections=[ClipGallery("g", [ClipGroup("17", [clip(motion_px=motion)])])])
    )
    assert page.all("svg")[0]["viewbox"] == "0 0 32 24"
    assert page.all("polyline")[0]["points"] == "0.5,0.5 31.5,23.5"
    assert (page.all("circle")[0]["cx"], page.all("circle")[0]["cy"]) == ("31.5", "23.5")


def test_clips_stop_for_readers_who_want_less_motion():
    page = whole_page()
    rule = ".gallery:not(.playing) .clip { animation: none;"
    assert f"@media (prefers-reduced-motion: reduce) {{\n  {rule}" in page
    assert 'matchMedia("(prefers-reduced-motion: reduce)").matches' in page


def test_clouds_travel_as_sixteen_bits_of_their_farthest_point():
    view = CloudView("v", [cloud(), cloud(name="hidden", is_shown=False)], point_size=0.05)
    page = Reader(page_html(title="p", sections=[view]))
    first, second = page.all("input")
    steps = np.frombuffer(base64.b64decode(first["data-coord"]), "<i2").reshape(-1, 3)
    # The farthest point lies at distance 1, so a step is 1 / 32767.
    np.testing.assert_allclose(steps / 32767, [[0.6, 0, 0.8], [-0.25, 0.5, 0]], atol=0.5 / 32767 + 1e-7)
    colors = np.frombuffer(base64.b64decode(first["data-color"]), np.uint8).reshape(-1, 3)
    assert colors.tolist() == [[255, 0, 0], [0, 255, 0]]
    assert "checked" in first
    assert "checked" not in second
    [root] = page.with_class("cloud-view")
    assert float(root["data-point-size"]) == pytest.approx(0.05 * 32767, rel=1e-3)


@pytest.mark.parametrize(
    ("heading", "turn"),
    [((0.0, 1.0), 0.0), ((1.0, 0.0), -1.5708), ((-1.0, 0.0), 1.5708), ((0.0, -1.0), 3.1416)],
)
def test_convention_the_view_starts_along_the_heading(heading, turn):
    # page.js: away = cos(turn) y − sin(turn) x, which is largest along the heading.
    page = Reader(page_html(title="p", sections=[CloudView("v", [cloud()], heading=heading)]))
    found = float(page.with_class("cloud-view")[0]["data-turn"])
    assert np.cos(found) == pytest.approx(np.cos(turn), abs=1e-3)
    assert np.sin(found) == pytest.approx(np.sin(turn), abs=1e-3)


def test_the_canvas_is_reached_and_turned_by_keyboard():
    page = Reader(whole_page())
    [canvas] = page.all("canvas")
    assert canvas["tabindex"] == "0"
    assert "arrow keys turn it" in canvas["aria-label"]
    keys = {a["data-key"] for a in page.all("button") if "data-key" in a}
    handled = re.search(r"const actions = \{(.*?)\n  \};", whole_page(), re.DOTALL)[1]
    assert keys == {key.strip('"') for key in re.findall(r'^    ("?[\w+-]+"?):', handled, re.MULTILINE)}
    assert all(a.get("aria-label") for a in page.all("button") if "data-key" in a)


def test_clouds_without_points_are_shown_as_nothing():
    nothing = torch.zeros(0, 3)
    page = Reader(page_html(title="p", sections=[CloudView("v", [NamedCloud("n", nothing, nothing)])]))
    assert page.all("input")[0]["data-coord"] == ""


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(ConfigError, match="cloud 'c' has points that are not finite"):
        CloudView("v", [cloud(name="c", coord=torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0]]))])


@pytest.mark.parametrize("section", [Figure("f"), ClipGallery("g", [])])
def test_sections_without_content_say_so(section):
    assert "There is nothing to show here." in Reader(page_html(title="p", sections=[section])).words


def test_write_page_writes_utf8_in_one_step(tmp_path):
    write_page(tmp_path / "deep" / "p.html", title="R² − 1", sections=[])
    assert "<title>R² − 1</title>" in (tmp_path / "deep" / "p.html").read_bytes().decode()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*p\.html"):
        write_page(tmp_path / "file" / "p.html", title="t", sections=[])


def test_style_and_script_travel_with_the_package():
    root = Path(__file__).parents[2]
    listed = re.search(r"^laq_model = \[(.+)\]$", (root / "pyproject.toml").read_text(), re.MULTILINE)[1]
    patterns = re.findall(r'"([^"]+)"', listed)
    shipped = {path.name for pattern in patterns for path in (root / "laq" / "laq_model").glob(pattern)}
    assert {"page.css", "page.js"} <= shipped
