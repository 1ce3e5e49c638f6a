"""A chapter in JupyterLab: folded results, figures in words, and the page opened again tomorrow."""

import base64
import os
from pathlib import Path

import nbformat
import pytest

from course_lib.publishing import notebooks
from course_lib.publishing.pictures import picture_of
from tests.display.panels import browser

pytestmark = [
    pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here"),
    pytest.mark.slow,
]

LONG = 900  # seconds for a chapter on a busy machine
WIDGET = "application/vnd.jupyter.widget-view+json"
WHOLE = '{"windowingMode": "none"}'  # the page as a whole, not only what is in sight
SHOWN = ".jp-OutputArea-output img:not([hidden], .course-panel-kept *)"
IMAGES = f"[...document.querySelectorAll('{SHOWN}')]"
OPEN = "document.querySelectorAll('.jp-showHiddenCellsButton').forEach(each => each.click());"
TEXT = "document.querySelector('.jp-Notebook').innerText"


def photograph(page, name):
    """A picture of the page, kept where COURSE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        taken = page.do("Page.captureScreenshot", format="png")
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


def put(name, folder):
    """A chapter in a folder, with a first cell that tells when there is a kernel."""
    book = notebooks.read(name)
    book.cells.insert(0, nbformat.v4.new_code_cell("'the kernel is there'"))
    path = folder / f"{name}.ipynb"
    nbformat.write(book, path)
    return path


@pytest.mark.parametrize("name", ["03_loading_weights", "06_staged"])
def test_what_happened_shows_after_a_click(name, tmp_path):
    with browser.lab(tmp_path, put(name, tmp_path).name) as page:
        hidden = page.until(
            "(() => { const found = document.querySelector('.jp-showHiddenCellsButton');"
            "if (!found) { document.querySelector('.jp-WindowedPanel-outer').scrollTop += 300;"
            "return ''; } found.scrollIntoView({block: 'center'}); return found.innerText; })()",
            "the first prediction",
        )
        assert "hidden" in hidden
        assert "What happened: " in page.js(TEXT)
        assert "You wrote down no prediction" not in page.js(TEXT)
        photograph(page, f"{name}_folded")
        page.click(".jp-showHiddenCellsButton")
        page.until(f"{TEXT}.includes('You wrote down no prediction')", "the result")
        photograph(page, f"{name}_opened")


def outputs(path):
    return [output for _, output in notebooks.outputs(nbformat.read(path, as_version=4))]


def described(found):
    """The text alternatives of the figures among outputs, in order."""
    return [picture.alt for picture in map(picture_of, found) if picture]


def test_a_page_that_was_run_is_whole_when_it_is_opened_again(tmp_path, monkeypatch):
    """With another kernel, as tomorrow: bars are gone, figures described, panels shown."""
    monkeypatch.delenv("COURSE_PROGRESS_BAR", raising=False)
    tracker = tmp_path / "JUPYTERLAB_SETTINGS_DIR/@jupyterlab/notebook-extension"
    tracker.mkdir(parents=True)
    (tracker / "tracker.jupyterlab-settings").write_text(WHOLE)
    path = put("02_hotdog", tmp_path)
    stored = described(outputs(path))
    with browser.lab(tmp_path, path.name) as page:
        page.until(f"{OPEN} {IMAGES}.length === {len(stored)}", "the stored figures")
        assert page.js(f"{IMAGES}.map(each => each.alt)") == stored
        address = page.js("location.href")
        page.js("jupyterapp.commands.execute('notebook:run-all-cells')"
                ".then(() => { window.ran = true }); 0")  # fmt: skip
        page.until("window.ran", "the end of the chapter", LONG)
        page.js("jupyterapp.commands.execute('docmanager:save').then(() => 0)")
        page.js("jupyterapp.serviceManager.sessions.shutdownAll().then(() => 0)")

        saved = outputs(path)
        assert not [each for each in saved if each.output_type == "error"]
        assert {"text/plain": ""} in [each.get("data") for each in saved], "where a bar was"
        panels = [each for each in saved if WIDGET in each.get("data", {})]
        assert len(panels) == 1, "a bar has left a widget"
        assert described(saved) == stored[:-1]  # the last is the panel's

        page.do("Page.navigate", url=f"{address}?reset")
        page.until(f"{OPEN} {IMAGES}.length === {len(stored)}", "the saved figures and the panel's")
        assert "Error displaying widget" not in page.js(TEXT)
        assert page.js(f"{IMAGES}.map(each => each.alt)")[:-1] == stored[:-1]
        assert page.js(f"{IMAGES}.every(each => each.alt && each.naturalWidth)")
        page.js(f"{IMAGES}.at(-1).scrollIntoView()")
        photograph(page, "02_reopened")
