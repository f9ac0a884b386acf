"""The page in a real browser: no complaint, alone, legible at two widths, by keyboard, still if asked."""

import pytest
import torch
from browser import CHROMIUM, Browser
from wall_and_box import CONFIG, observe, wall

from laq_model.feature_store import PairName
from laq_model.report.code_groups import CodedPairs
from laq_model.report.evaluation_result import EvaluationResult
from laq_model.report.page_viewers import Clip, ClipGallery, ClipGroup
from laq_model.report.pair_scene import pair_scene_sections
from laq_model.report.run_page import RunPage, write_run_page

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium on PATH")

KEY = "probe.linear.ee_displacement.r2_mean"
PLACE = "getComputedStyle(document.querySelector('.clip')).backgroundPositionX"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Every kind of section, with long names."""
    generator = torch.Generator().manual_seed(0)
    names = [
        PairName(f"videos/moving/a-rather-long-name-{n // 9}.webm", 5 * (n % 9), 5 * (n % 9) + 5, 0.0, 0.5)
        for n in range(36)
    ]
    codes = torch.randint(0, 8, (36, 4), generator=generator)
    frames = torch.randint(0, 255, (6, 32, 32, 3), generator=generator, dtype=torch.uint8)
    clips = [Clip(frames, f"{name.video} 0.1 s", torch.tensor([[3.0, 3], [20, 20]])) for name in names[:8]]
    scopes = ("", "view.fixed.", "view.moving.", "transfer.fixed_to_moving.")
    figures = {"copy_ratio_hard": 0.5, **{f"{scope}{KEY}": 0.5 for scope in scopes}}
    file = tmp_path_factory.mktemp("page") / "page.html"
    metrics = [{"step": step, "kind": "held_out", "copy_ratio_hard": 1 / step} for step in (1, 2)]
    scene = observe(wall(box_column=4), wall(box_column=17))
    write_run_page(
        file,
        RunPage(
            title="A run",
            metrics=metrics,
            evaluation=EvaluationResult(figures, {}, ["a note"]),
            pairs=CodedPairs(names, codes, 8),
            gallery=ClipGallery("What each code means", [ClipGroup("Token 0 is 1", clips)]),
            scene=pair_scene_sections(scene, names[0], CONFIG),
            limits=["a limit"],
        ),
    )
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_it_loads_quietly_alone_and_within_its_width(browser, page, width):
    browser.open(page, width=width)
    browser.wait_for("document.querySelector('.cloud-view').dataset.drawn")
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    # Legible: no words smaller than twelve pixels, no control smaller than a finger on a phone.
    sizes = "[...document.querySelectorAll('p, td, th, li, a, button, label')].map(e => "
    assert browser.value(f"Math.min(...{sizes} parseFloat(getComputedStyle(e).fontSize)))") >= 12
    heights = "[...document.querySelectorAll('button')].map(e => e.offsetHeight)"
    assert browser.value(f"Math.min(...{heights})") >= 40
    clip = "document.querySelector('.clip').getBoundingClientRect()"
    assert browser.value(f"{clip}.width") >= 96
    assert browser.value(f"Math.abs({clip}.width - {clip}.height)") < 1


def test_a_complaint_would_be_heard(browser, page, tmp_path):
    broken = tmp_path / "broken.html"
    outside = '<img src="https://example.invalid/a.png">'
    broken.write_text(page.read_text().replace("</body>", f"{outside}<script>nothing()</script></body>"))
    browser.open(broken, width=1280)
    said = " ".join(browser.complaints)
    assert "nothing is not defined" in said
    assert "Content Security Policy" in said


def test_everything_is_reached_and_used_by_keyboard(browser, page):
    browser.open(page, width=1280)
    browser.wait_for("document.querySelector('.cloud-view').dataset.drawn")
    total = browser.value(
        "document.querySelectorAll('a[href], button:not([hidden]), input, [tabindex=\"0\"]').length"
    )
    reached = []
    for _ in range(total):
        browser.press("Tab")
        what = "document.activeElement"
        reached.append(browser.value(f"{what}.tagName + ' ' + {what}.textContent.trim()"))
        if reached[-1] == "BUTTON Stop clips":
            browser.press("Enter")
            assert browser.value("document.querySelector('.gallery').className") == "gallery still"
        if reached[-1].startswith("CANVAS"):
            _turn_by_keys(browser)
    assert {place.split(" ")[0] for place in reached} == {"A", "BUTTON", "INPUT", "CANVAS", "DIV", "FIGURE"}
    assert len(reached) == total
    assert reached[0] == "A Skip to the content"
    assert sum(place.startswith("CANVAS") for place in reached) == 1
    assert sum(place.startswith("BUTTON") for place in reached) == 1 + 7
    assert browser.complaints == []


def _turn_by_keys(browser: Browser) -> None:
    drawn = "document.querySelector('.cloud-view').dataset.drawn"
    picture = "document.querySelector('canvas').toDataURL()"
    before, first = browser.value(drawn), browser.value(picture)
    browser.press("ArrowRight")
    browser.press("ArrowUp")
    turned = [float(part) for part in browser.value(drawn).split()]
    started = [float(part) for part in before.split()]
    assert turned == pytest.approx([started[0] - 0.1, started[1] + 0.1, started[2]], abs=0.011)
    assert browser.value(picture) != first
    browser.press("ArrowDown")
    browser.press("ArrowLeft")
    assert browser.value(picture) == first


def test_clips_play_and_stop(browser, page):
    browser.open(page, width=1280)
    start = browser.value(PLACE)
    browser.wait_for(f"{PLACE} !== '{start}'")
    browser.value("document.querySelector('.gallery button').click()")
    assert browser.value(PLACE) == "100%"
    assert browser.value("document.getAnimations().length") == 0
    browser.value("document.querySelector('.gallery button').click()")
    browser.wait_for("document.getAnimations().length > 0")


def test_a_reader_who_wants_less_motion_starts_still_and_may_play(browser, page):
    browser.open(page, width=390, less_motion=True)
    assert browser.value("document.getAnimations().length") == 0
    assert browser.value("document.querySelector('.gallery button').textContent") == "Play clips"
    browser.value("document.querySelector('.gallery button').click()")
    browser.wait_for("document.getAnimations().length > 0")
