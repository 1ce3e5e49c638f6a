"""A page with one thing of each kind, run, saved and opened tomorrow, in each front end.

``course lab`` has tests of its own. Notebook and nbclassic are tried where they are installed
(``pip install '.[fronts]'``); JupyterLab as it comes, without the course's settings, everywhere.
"""

import importlib.util
import os
import sys
from contextlib import contextmanager

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter

from course_lib.publishing import learner, notebooks
from course_lib.publishing.pictures import picture_of
from tests.display.panels import browser

pytestmark = [
    pytest.mark.skipif(not browser.CHROMIUM, reason="there is no Chromium here"),
    pytest.mark.slow,
]

CELLS = [
    "**Predict** how many.",
    "from course_lib.exercises import compare, predict\npredict('how many', ...)",
    """
from course_lib.display import plots
from course_lib.data.progress import bar
with bar(2, "two steps", True) as shown:
    shown.update(2)
figure, axes = plots.new_axes(4, 2)
axes[0, 0].plot([1, 2])
plots.show(figure, "A line that rises from 1 to 2.")""",
    "## The panel",
    """
from course_lib.display import panels
from tests.display.panels.test_prediction_panel import made
panels.PredictionPanel(made(), picture=%r)""",
    "print('the' + ' end')",
]
TEXT = "document.body.innerText"
SEEN = (
    "[...document.querySelectorAll('.jp-OutputArea img, .output_area img')].filter("
    "each => each.checkVisibility())"
)
TWO = f"{SEEN}.filter(each => each.alt).length === 2"
COMMAND = "jupyterapp.commands.execute({!r}).then(() => 0)"


class Lab:
    """JupyterLab and Notebook 7: one application, in two shells."""

    opened = "!!window.jupyterapp?.shell.currentWidget?.context?.isReady"
    clean = "!jupyterapp.shell.currentWidget.context.model.dirty"
    run, save = COMMAND.format("notebook:run-all-cells"), COMMAND.format("docmanager:save")
    stop = "jupyterapp.serviceManager.sessions.shutdownAll().then(() => 0)"
    unfold = "document.querySelectorAll('.jp-showHiddenCellsButton').forEach(e => e.click())"
    ready = "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
    options = ("--expose-app-in-browser",)
    panel_lives = True

    def __init__(self, module, place):
        self.module, self.place = module, place


class Classic:
    """The notebook of before 2023."""

    opened = "!!window.Jupyter?.notebook?._fully_loaded"
    clean = "!Jupyter.notebook.dirty"
    run, save = "Jupyter.notebook.execute_all_cells()", "Jupyter.notebook.save_notebook()"
    stop = "Jupyter.notebook.session.delete()"
    unfold = ""
    ready = "!!Jupyter.notebook.kernel?.is_connected()"
    options = ()
    panel_lives = False
    module, place = "nbclassic", "nbclassic/notebooks"


FRONTS = {
    "lab": Lab("jupyterlab", "lab/tree"),
    "notebook": Lab("notebook", "notebooks"),
    "nbclassic": Classic(),
}


@contextmanager
def served(front, folder):
    """A server of a front end as it comes; its address."""
    home = {name: str(folder / name) for name in
            ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR",
             "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}  # fmt: skip
    command = [
        sys.executable, "-m", front.module, "--no-browser", "--port=0", "--allow-root",
        "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
        *front.options,
    ]  # fmt: skip
    path = os.pathsep.join([str(browser.ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **home, "PYTHONPATH": path}
    environment.pop("COURSE_PROGRESS_BAR", None)
    with browser.process(
        command, r"(http://127\.0\.0\.1:\d+)/", folder / "server.log", env=environment
    ) as said:
        yield said[1]


def page_of_all_kinds(path):
    """A page as the build leaves it: what follows a prediction is folded."""
    picture = next(browser.ROOT.glob("data/hotdog_rendered/test/hotdog/*"))
    book = nbformat.v4.new_notebook()
    for source in CELLS:
        make = nbformat.v4.new_markdown_cell
        if not source.startswith(("**", "##")):
            make = nbformat.v4.new_code_cell
            source = source.replace("%r", repr(str(picture))).strip()
        book.cells.append(make(source))
    book.cells = learner.prepared(book.cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)


def saved(path):
    """The outputs in the file."""
    return [each for _, each in notebooks.outputs(nbformat.read(path, as_version=4))]


def expect_whole(text, alts):
    """A page that somebody opens the day after."""
    assert "rror displaying" not in text
    assert "Loading widget" not in text
    assert "VBox(" not in text
    assert "What happened: how many" in text
    assert "the end" in text
    line, panel = alts
    assert line == "A line that rises from 1 to 2."
    assert "hotdog" in panel


@pytest.mark.parametrize("name", FRONTS)
def test_a_page_that_was_run_is_whole_the_day_after(name, tmp_path):
    front = FRONTS[name]
    if not importlib.util.find_spec(front.module):
        pytest.skip(f"{front.module} isn't installed")
    path = tmp_path / "page.ipynb"
    page_of_all_kinds(path)
    with served(front, tmp_path) as address, browser.tab(tmp_path) as page:
        page.do("Emulation.setFocusEmulationEnabled", enabled=True)
        page.do("Emulation.setDeviceMetricsOverride", width=1100, height=3000, deviceScaleFactor=1,
                mobile=False)  # fmt: skip
        here = f"{address}/{front.place}/page.ipynb"
        page.do("Page.navigate", url=here)
        page.until(front.opened, "the notebook")
        page.until(front.ready, "the kernel")
        page.js(f"{front.run}; 0")
        end = f"{TEXT}.includes('the end')"
        page.until(f"{front.unfold}; {end}", "the end of the page")
        controls = "document.querySelectorAll('.widget-upload').length"
        page.until(f"{controls} == {int(front.panel_lives)} && {TWO}", "each picture once")
        page.js(f"{front.save}; 0")
        page.until(front.clean, "that it is saved")
        page.js(f"{front.stop}; 0")

        assert not [each for each in saved(path) if each.output_type == "error"]
        assert next(each.alt for each in map(picture_of, saved(path)) if each and each.element)

        page.do("Page.navigate", url="about:blank")
        page.do("Page.navigate", url=here)
        page.until(front.opened, "the saved notebook")
        page.until(f"{front.unfold}; {TWO} && {end}", "the whole saved page")
        expect_whole(page.js(TEXT), page.js(f"{SEEN}.map(each => each.alt).filter(alt => alt)"))

    html, _ = HTMLExporter().from_filename(str(path))  # as on a page to send to somebody
    soup = BeautifulSoup(html, "html.parser")
    expect_whole(soup.body.get_text(), [each.get("alt") for each in soup.body.find_all("img")])
