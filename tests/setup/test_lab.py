"""The copy that a learner works on: kept up to date, never overwritten; and how it is laid out."""

import json

import pytest

from course_lib.chapters import CHAPTERS
from course_lib.setup import lab
from tests.display.panels import browser


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The notebooks of a course with two chapters; its learner's folder isn't there yet."""
    monkeypatch.setattr(lab, "repo_root", lambda: tmp_path)
    folder = tmp_path / "notebooks"
    (folder / "source").mkdir(parents=True)
    for name in ("00_start_here", "01_next"):
        publish(folder, name, "first")
    return folder


def publish(folder, name, version):
    about = {"course": {"source_sha256": version}}
    path = folder / f"{name}.ipynb"
    path.write_text(json.dumps({"cells": [], "metadata": about, "nbformat": 4}))
    return path


def answer(path):
    """What a learner writes stands in the file, which still says what it was made from."""
    content = json.loads(path.read_text()) | {"cells": ["an answer"]}
    path.write_text(json.dumps(content))
    return path.read_bytes()


def chapters(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}


def test_a_copy_without_the_sources(course):
    lab.refresh()
    assert chapters(lab.folder()) == chapters(course)
    assert sorted(path.name for path in lab.folder().iterdir() if path.is_dir()) == [lab.KEPT]
    assert all(map(lab.is_untouched, lab.folder().glob("*.ipynb")))


def test_what_nobody_touched_follows_the_course_and_what_was_touched_stays(course):
    lab.refresh()
    mine = answer(lab.folder() / "01_next.ipynb")
    assert not lab.is_untouched(lab.folder() / "01_next.ipynb")
    for name in ("00_start_here", "01_next"):
        publish(course, name, "second")
    said = lab.refresh()
    assert said[1:] == [
        "00_start_here.ipynb is new in the course, and in your copy.",
        "01_next.ipynb is new in the course: it is 01_next_new.ipynb beside yours.",
    ]
    assert chapters(lab.folder()) == {
        "00_start_here.ipynb": (course / "00_start_here.ipynb").read_bytes(),
        "01_next.ipynb": mine,
        "01_next_new.ipynb": (course / "01_next.ipynb").read_bytes(),
    }


def test_a_new_version_is_told_once_and_its_place_may_be_taken(course):
    lab.refresh()
    answer(lab.folder() / "01_next.ipynb")
    publish(course, "01_next", "second")
    lab.refresh()
    newer = answer(lab.folder() / "01_next_new.ipynb")
    assert len(lab.refresh()) == 1
    publish(course, "01_next", "third")
    assert "01_next_new-2.ipynb" in lab.refresh()[1]
    assert chapters(lab.folder())["01_next_new.ipynb"] == newer


def test_a_deleted_chapter_comes_back_as_it_came(course):
    lab.refresh()
    answer(lab.folder() / "01_next.ipynb")
    (lab.folder() / "01_next.ipynb").unlink()
    assert len(lab.refresh()) == 1
    assert chapters(lab.folder()) == chapters(course)


def test_a_chapter_with_answers_that_nobody_copied_stays(course):
    """Such as one from another machine; and what was noted is lost with it, or damaged."""
    lab.folder().mkdir()
    publish(lab.folder(), "01_next", "first")
    mine = answer(lab.folder() / "01_next.ipynb")
    lab.refresh()
    (lab.folder() / lab.KEPT / "copied.json").write_text("no JSON")
    assert len(lab.refresh()) == 1
    assert chapters(lab.folder()) == {**chapters(course), "01_next.ipynb": mine}


@pytest.mark.slow
@pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here")
def test_lab_opens_on_a_small_screen(tmp_path):
    """Names whole, contents open, sources out of sight; dark figures; tomorrow the same page."""
    with browser.course_lab(tmp_path) as address, browser.tab(tmp_path) as page:
        page.do("Emulation.setDeviceMetricsOverride", width=1366, height=768, deviceScaleFactor=1,
                mobile=False)  # fmt: skip
        page.do("Emulation.setFocusEmulationEnabled", enabled=True)
        page.do("Page.navigate", url=address)
        page.until("document.querySelector('.jp-TableOfContents')?.innerText.includes('Go on')")
        names = "[...document.querySelectorAll('.jp-DirListing-itemText')]"
        shown = page.js(f"{names}.map(each => each.innerText)")
        assert shown == [f"{each.name}.ipynb" for each in CHAPTERS]
        cut = f"{names}.filter(each => each.scrollWidth > each.clientWidth)"
        assert page.js(f"{cut}.map(each => each.innerText)") == []
        assert page.js("document.querySelector('.jp-Notebook').clientWidth") >= 800
        page.until("document.querySelector('.jp-WindowedPanel-outer').scrollTop += 50,"
                   "!!document.querySelector('img.course-plot')", "the map")  # fmt: skip
        look = "getComputedStyle(document.querySelector('img.course-plot')).filter"
        assert page.js(look) == "none"
        dark = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
        page.js(f"{dark}.then(() => 0)")
        page.until(f"{look}.includes('invert')")
        page.do("Emulation.setEmulatedMedia", media="print")
        assert page.js(look) == "none", "on paper"


def test_notes_and_notebooks_that_are_nested_too_deep(course):
    lab.refresh()
    (lab.folder() / lab.KEPT / "copied.json").write_text("[" * 5000)
    (lab.folder() / "01_next.ipynb").write_text("[" * 5000)
    publish(course, "01_next", "second")
    assert "01_next_new.ipynb" in lab.refresh()[-1]
