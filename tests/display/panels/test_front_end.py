"""Where a panel has controls and where it is a picture with a text."""

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.display.panels import base
from course_lib.publishing import notebooks
from course_lib.publishing.pictures import picture_of

CELL = """
import torch
from torch import nn
from course_lib.display.panels import FreezingPanel

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
x, y = torch.randn(8, 3, 6, 6), torch.arange(8) % 2

def sgd(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

def step(model, optimizer):
    model.train()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()

FreezingPanel(model, sgd, step, frozen=["0", "1"])
"""


def executed():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=120, kernel_name="python3", coalesce_streams=True).execute()
    return notebook


def test_an_executed_notebook_holds_a_picture_with_text_and_no_widget():
    notebook = executed()
    text, picture = notebook.cells[0].outputs
    assert text.name == "stdout"
    assert text.text.startswith("Frozen: 0, 1. Way: freezing.freeze.\nTrains: 2 parameters")
    assert "Audit: no leak." in text.text
    assert "Frozen: 0, 1." in picture_of(picture).alt
    assert "widgets" not in notebook.metadata
    stored = nbformat.writes(notebook)
    assert "widget" not in stored.replace("ipywidgets", "")

    again = executed().cells[0].outputs
    assert again[0].text == text.text
    assert again[1].data == picture.data


@pytest.mark.parametrize(
    ("setting", "request_metadata", "live"),
    [
        ("", {}, False),
        ("", {"cellId": "a1", "deletedCells": []}, True),
        ("static", {"cellId": "a1"}, False),
        ("live", {}, True),
        (" LIVE ", {}, True),
        ("nonsense", {}, False),
    ],
)
def test_a_front_end_names_the_cell(setting, request_metadata, live, monkeypatch):
    import IPython

    class Kernel:
        def get_parent(self):
            return {"metadata": request_metadata}

    class Shell:
        kernel = Kernel()

    monkeypatch.setenv(base.ENVIRONMENT_VARIABLE, setting)
    monkeypatch.setattr(IPython, "get_ipython", lambda: Shell())
    assert base.has_front_end() is live


def test_no_kernel_no_front_end(monkeypatch):
    monkeypatch.delenv(base.ENVIRONMENT_VARIABLE, raising=False)
    assert base.has_front_end() is False


def test_the_course_builds_notebooks_without_a_front_end(tmp_path):
    """The builder is the client that stores the chapters."""
    path = tmp_path / "07_panel.py"
    path.write_text(f"# %%\n{CELL.strip()}\n")
    built = notebooks.execute(notebooks.from_source(path))
    assert "widgets" not in built.metadata
    assert built.cells[0].outputs[0].text.startswith("Frozen: 0, 1.")
