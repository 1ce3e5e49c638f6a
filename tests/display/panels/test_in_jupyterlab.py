"""The panel for predictions as a person uses it: JupyterLab, in a browser."""

import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.display.panels import browser
from tests.display.panels.test_prediction_panel import made

PICTURES = browser.ROOT / "data/hotdog_rendered/test"
CELL = """
from course_lib.display import panels
from tests.display.panels.test_prediction_panel import made
panels.PredictionPanel(made())
"""

pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "panel.ipynb")
    with browser.lab(folder, "panel.ipynb") as page:
        page.until(says("No photograph yet"))
        yield page


def says(text):
    return f"document.querySelector('.jp-OutputArea')?.innerText.includes({text!r})"


def answer(path):
    """What the panel should say, by the network itself."""
    found = made().predict(str(path))
    return f"{path.name}: {found.answer}.", f"Probabilities: {', '.join(found.best())};"


def expect(page, path):
    for text in answer(path):
        page.until(says(text))
    alt = "[...document.querySelectorAll('.jp-OutputArea img')].map(e => e.alt).join()"
    page.until(f"{alt}.includes({path.name!r})")
    assert page.js("[...document.querySelectorAll('.jp-OutputArea img')].at(-1).naturalWidth") > 0


def test_a_photograph_gets_in_by_the_dialog_by_dropping_and_by_its_path(page, tmp_path):
    first, second = sorted(PICTURES.glob("hotdog/*"))[:2]
    third = sorted(PICTURES.glob("not-hotdog/*"))[0]
    page.choose(".widget-upload", first)
    expect(page, first)
    page.drop(".course-drop", second)
    expect(page, second)
    page.choose(".widget-upload", first)  # again the same as before
    expect(page, first)
    page.js("document.querySelector('.jp-OutputArea input[type=text]').focus()")
    page.keys(f"{third}\n")  # Enter in the field
    expect(page, third)
    page.drop(".course-drop", first)
    expect(page, first)
    page.js("document.querySelector('.jp-OutputArea input[type=text]').focus()")
    page.keys("\t\n")  # the same again: by Tab to the button, and Enter on it
    expect(page, third)

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(third.read_bytes()[:2000])
    for take in (page.choose, page.drop):
        take(".widget-upload" if take == page.choose else ".course-drop", broken)
        page.until(says("broken.jpg can't be read: "))
        assert page.js("document.querySelector('.jp-OutputArea img[src^=\"data:image\"]')") is None
        assert "Traceback" not in page.js("document.querySelector('.jp-OutputArea').innerText")
        page.drop(".course-drop", second)
        expect(page, second)

    large = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large)
    page.drop(".course-drop", large)
    page.until(says("large.png is larger than 10 MB: write its path instead"))
    page.drop(".course-drop", first)  # the connection is still there
    expect(page, first)
    assert not page.js(says("larger than 10 MB"))


def test_each_control_has_a_name_that_a_screen_reader_finds(page):
    nodes = page.do("Accessibility.getFullAXTree")["nodes"]
    named = {
        (each["role"]["value"], each["name"]["value"].strip())
        for each in nodes
        if not each["ignored"] and "name" in each and "role" in each
    }
    assert ("textbox", "or a file's path") in named
    assert ("button", "Look at it") in named
    assert any(role == "button" and "Upload a picture" in name for role, name in named)
