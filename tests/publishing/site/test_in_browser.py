"""The whole site in headless Chromium: nothing loaded, no barrier, a small screen, answers."""

import inspect
from pathlib import Path

import axe_playwright_python
import pytest

from course_lib.chapters import CHAPTERS
from course_lib.exercises import questions_of
from course_lib.publishing import site
from tests.display.panels.browser import CHROMIUM, tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]
AXE = Path(inspect.getfile(axe_playwright_python)).with_name("axe.min.js")
VIOLATIONS = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
    ".filter(each => ['serious', 'critical'].includes(each.impact)).map(each => each.id + ': ' + "
    "each.nodes.slice(0, 3).map(node => node.html.slice(0, 200)).join(' | ')))"
)
SEEN = (
    "(e => (c => c.outlineStyle !== 'none' || c.boxShadow !== 'none')(getComputedStyle(e)) || "
    "e.outerHTML.slice(0, 200))"
)
WIDE, TELEPHONE = (1300, 900), (390, 844)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the whole site."""
    folder = tmp_path_factory.mktemp("site") / "made"
    site.build(folder)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with tab(tmp_path_factory.mktemp("browser")) as opened:
        opened.do("Page.enable")
        yield opened


def pages(whole):
    return sorted(path for path in whole.rglob("*.html") if "_static" not in path.parts)


def visit(page, path, size=WIDE, theme="light", query=""):
    """Open a page in that size and theme, and wait until all of it is there."""
    width, height = size
    page.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=size == TELEPHONE)  # fmt: skip
    page.do("Page.navigate", url=f"{path.as_uri()}{query}")
    page.until(f"location.pathname === {path.as_uri().removeprefix('file://')!r} && "
               "document.readyState === 'complete'")  # fmt: skip
    page.js(f"document.documentElement.dataset.theme = {theme!r}")


def test_all_is_there(whole):
    made = {path.relative_to(whole).as_posix() for path in pages(whole)}
    assert {f"{each.name}.html" for each in CHAPTERS} <= made
    assert {"index.html", "glossary.html", "search.html", "sheets/course.html"} <= made
    reference = (whole / "reference" / "freezing.html").read_text(encoding="utf-8")
    assert 'id="course_lib.freezing.freeze"' in reference


def barriers(page, path, theme):
    """What a person who can't see well, or has no mouse, stumbles over; folds are opened first."""
    visit(page, path, theme=theme)
    page.js("document.querySelectorAll('details').forEach(each => { each.open = true })")
    page.until("document.getAnimations().length === 0")  # colours that fade in are no colours yet
    page.js(AXE.read_text(encoding="utf-8") + "; 0")
    return page.js(VIOLATIONS)


def test_no_page_has_a_serious_barrier(whole, page):
    found = {path.name: barriers(page, path, "light") for path in pages(whole)}
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.parametrize("name", ["index", "02_hotdog", "reference/text"])
def test_nor_in_the_dark_theme(whole, page, name):
    assert barriers(page, whole / f"{name}.html", "dark") == []


def test_nothing_scrolls_sideways_on_a_telephone(whole, page):
    wide = []
    for path in pages(whole):
        visit(page, path, TELEPHONE)
        page.js("document.querySelectorAll('details').forEach(each => { each.open = true })")
        # Not innerWidth: on a telephone, it grows with what is too wide.
        if page.js("document.documentElement.scrollWidth") > TELEPHONE[0]:
            wide.append(path.name)
    assert wide == []


def test_nothing_is_loaded_from_elsewhere(whole, page):
    for path in pages(whole):
        visit(page, path)
        loaded = page.js("performance.getEntriesByType('resource').map(each => each.name)")
        assert [name for name in loaded if not name.startswith(("file:", "data:"))] == []


def test_a_question_is_answered_on_the_page(whole, page):
    """With the keyboard alone: choose, Enter, read."""
    question = questions_of("02")[0]
    visit(page, whole / "02_hotdog.html")
    shown = (
        f"[...document.querySelectorAll('#{question.name} [data-option]')]"
        ".filter(each => !each.hidden).map(each => each.innerText)"
    )
    assert page.js(shown) == []
    for letter, option in question.printed.items():
        page.js(f"document.querySelector('#{question.name} input[value={letter}]').focus()")
        page.js("document.activeElement.checked = true")
        page.keys("\n")
        (reason,) = page.until(f"{shown}.length && {shown}")
        assert reason.startswith("Right." if option.right else "Not right.")


def test_what_the_keyboard_reaches_is_seen(whole, page):
    """Contents, search, buttons, boxes, folds: each has a line around it, or a shadow."""
    visit(page, whole / "02_hotdog.html")
    page.js("document.head.append(Object.assign(document.createElement('style'), "
            "{textContent: '* {transition: none !important}'}))")  # fmt: skip
    reached = []
    while "prediction" not in page.js("document.activeElement.closest('p')?.className || ''"):
        page.keys("\t")
        reached.append(page.js(f"({SEEN})(document.activeElement)"))
    assert [each for each in reached if each is not True] == []
    assert 20 < len(reached) < 80


def test_search_finds_a_chapter(whole, page):
    visit(page, whole / "search.html", query="?q=overfitting")
    page.until("document.querySelector(\"#search-results a[href*='02_hotdog']\")?.innerText")
