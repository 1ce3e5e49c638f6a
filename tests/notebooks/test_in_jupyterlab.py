"""A chapter opened in JupyterLab: what happened is out of sight until a click brings it."""

import base64
import os
from pathlib import Path

import nbformat
import pytest

from course_lib.publishing import notebooks
from tests.display.panels import browser

pytestmark = [
    pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here"),
    pytest.mark.slow,
]

TEXT = "document.querySelector('.jp-Notebook').innerText"


def photograph(page, name):
    """A picture of the page, kept where COURSE_SCREENSHOTS names a folder."""
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        taken = page.do("Page.captureScreenshot", format="png")
        (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@pytest.mark.parametrize("name", ["03_loading_weights", "06_staged"])
def test_what_happened_shows_after_a_click(name, tmp_path):
    book = notebooks.read(name)
    book.cells.insert(0, nbformat.v4.new_code_cell("'the kernel is there'"))
    nbformat.write(book, tmp_path / f"{name}.ipynb")
    with browser.lab(tmp_path, f"{name}.ipynb") as page:
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
