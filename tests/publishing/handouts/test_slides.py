"""Slides: ten to twelve a chapter, whole, results behind questions, nothing from elsewhere."""

import base64
import json
import os
import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from course_lib.chapters import CHAPTERS
from course_lib.exercises.registry import chapters as with_exercises
from course_lib.publishing import notebooks
from course_lib.publishing.handouts import HandoutError, paper, slides
from course_lib.publishing.handouts.document import Output, Paragraph, line, words
from tests.display.panels import browser
from tests.publishing.handouts.conftest import Pages

WIDTH, HEIGHT = 720.0, 405.07  # points: 25.4 cm by 14.29
WINDOWS = ((1280, 720), (1366, 768), (1024, 768))

LEFT = """[...document.querySelectorAll('section')].filter(slide =>
  [slide, ...slide.querySelectorAll('.text, pre')].some(each =>
    each.scrollHeight > each.clientHeight + 1 || each.scrollWidth > each.clientWidth + 1)
  || [...slide.querySelectorAll('img')].some(each => each.clientHeight < innerHeight / 4)
).map(slide => slide.innerText.slice(0, 60))"""


@pytest.fixture(scope="module", params=[each.name for each in CHAPTERS])
def deck(request):
    return slides.make(request.param, notebooks.read(request.param))


def test_ten_to_twelve_slides_each_on_a_page_of_its_own(deck):
    pages = Pages(slides.pdf(deck))
    assert 10 <= len(deck.slides) <= 12
    assert len(pages) == len(deck.slides)
    for slide, text in zip(deck.slides, pages.texts, strict=True):
        flat = re.sub(r"\W", "", text)
        assert re.sub(r"\W", "", slide.title)[:30] in flat
    for _, left, bottom, right, top in pages.boxes():
        assert left >= 20
        assert right <= WIDTH - 20
        assert bottom >= 5
        assert top <= HEIGHT - 15


def test_talking_points_figures_and_one_exercise(deck):
    exercises = [each for each in deck.slides if each.title.startswith("Exercise ")]
    assert len(exercises) == (deck.title[:2] in with_exercises())
    assert any(each.said for each in deck.slides)
    assert any(each.picture for each in deck.slides)
    said = words(slides.notes(deck).blocks)
    assert all(words(each.said) in said for each in deck.slides)
    paper.pdf(slides.notes(deck))


def test_what_happened_comes_after_what_to_predict(deck):
    for before, after in zip(deck.slides, deck.slides[1:], strict=False):
        if after.title == "What happened":
            assert "Predict." in words(before.blocks)
            assert "What happened," in words(after.blocks)
        if "Predict." in words(before.blocks):
            assert after.title == "What happened"
            assert "What happened" not in words(before.blocks)
            assert "on the lines" not in words(before.blocks)


def test_the_page_is_one_file_that_loads_nothing(deck):
    html = slides.html(deck)
    soup = BeautifulSoup(html, "html.parser")
    assert len(soup.find_all("section")) == len(deck.slides)
    assert not soup.find_all(["link", "iframe", "base"])
    assert not [each for each in soup.find_all("script") if each.get("src")]
    assert all(each["src"].startswith("data:") and each["alt"] for each in soup.find_all("img"))
    assert not re.search(r"url\(|@import|fetch\(|https?://(?!www\.w3\.org/1998/Math)", html)


def test_more_than_fits_is_refused():
    full = slides.Slide("Full", tuple(Output("a line\n" * 8) for _ in range(9)))
    deck = slides.Deck("Title", "", (slides.Slide("Title", ()), full))
    with pytest.raises(HandoutError, match="more than fits"):
        slides.pdf(deck)


def test_a_beginning_ends_with_a_sentence():
    text = "One is here. Two (or more) follow. Three are too many for what is left of the room."
    assert words(slides._beginning(line(text), 40)) == "One is here. Two (or more) follow. "
    assert words(slides._beginning(line("Here it is:"))) == "Here it is."
    assert words(slides._beginning(Paragraph(line("x" * 500)).inside)) == "x" * 500


@pytest.mark.slow
@pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here")
def test_nothing_leaves_a_slide_in_a_browser(tmp_path):
    """In three windows: no text below the edge, no figure too small to see, keys lead on."""
    with browser.tab(tmp_path) as page:
        for each in CHAPTERS:
            file = tmp_path / f"{each.name}.html"
            deck = slides.make(each.name, notebooks.read(each.name))
            file.write_text(slides.html(deck), encoding="utf-8")
            page.do("Page.navigate", url=file.as_uri())
            page.until(f"document.title.startsWith({json.dumps(each.number)})")
            page.until("document.readyState === 'complete'")
            for width, height in WINDOWS:
                metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
                page.do("Emulation.setDeviceMetricsOverride", mobile=False, **metrics)
                bad = page.js(LEFT)
                assert not bad, (each.name, width, bad)
            photograph(page, each.name)
        page.js("document.querySelector('section').scrollIntoView()")
        page.do("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        page.until("document.querySelectorAll('section')[1].getBoundingClientRect().top === 0")


def photograph(page, name):
    """The second slides' picture, kept where COURSE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        for number in (3, 6):
            page.js(f"document.querySelectorAll('section')[{number}].scrollIntoView()")
            taken = page.do("Page.captureScreenshot", format="png")
            file = Path(folder) / f"slides_{name}_{number}.png"
            file.write_bytes(base64.b64decode(taken["data"]))
