"""What is in sight when a notebook is opened: no result before its prediction, no alt text.

The rules of what is in sight are those of the front ends, not the builder's: JupyterLab hides the
cells below a heading whose cell has ``jp-MarkdownHeadingCollapsed``, up to the next heading of the
same or a higher level; Colab does so for the cells that ``colab.collapsed_sections`` names.
"""

import ast
import re

import pytest

from course_lib.publishing import notebooks
from course_lib.publishing.pictures import picture_of

NAMES = list(notebooks.sources())


def level_of(cell):
    """The level of the first heading of a Markdown cell; 7 if there is none."""
    prose = re.sub(r"```.*?```", "", cell.source, flags=re.S)
    found = re.search(r"^(#{1,6}) ", prose, re.M)
    return len(found[1]) if cell.cell_type == "markdown" and found else 7


def in_sight(notebook, collapsed):
    """For each cell whether it is shown, given which headings are collapsed."""
    shown, hidden_below = [], 7
    for cell in notebook.cells:
        level = level_of(cell)
        if level <= hidden_below < 7:
            hidden_below = 7
            assert cell.source.startswith("#"), "nothing of what happened stands before it"
        shown.append(hidden_below == 7)
        if hidden_below == 7 and collapsed(cell):
            hidden_below = level
    return shown


def in_jupyterlab(cell):
    return cell.metadata.get("jp-MarkdownHeadingCollapsed", False)


def calls(cell, name):
    """The first arguments of a cell's calls of that function, as they are written."""
    if cell.cell_type != "code" or {"exercise"} & set(cell.metadata.get("tags", ())):
        return []
    return [
        ast.unparse(node.args[0])
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


@pytest.fixture(params=NAMES)
def notebook(request):
    return notebooks.from_source(notebooks.sources()[request.param])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_folded_as_it_was_built(name):
    books = notebooks.read(name), notebooks.from_source(notebooks.sources()[name])
    keys = ("jp-MarkdownHeadingCollapsed", "id", "jupyter", "cellView")
    stored, built = (
        [[cell.metadata.get(key) for key in keys] for cell in book.cells] for book in books
    )
    assert stored == built
    assert books[0].metadata.get("colab") == books[1].metadata.get("colab")


def test_no_result_of_a_prediction_is_in_sight(notebook):
    folded = set(notebook.metadata.get("colab", {}).get("collapsed_sections", ()))
    ways = [in_jupyterlab, lambda cell: cell.metadata.get("id") in folded]
    first, second = (in_sight(notebook, way) for way in ways)
    assert first == second, "JupyterLab and Colab show the same"
    foreseen = [any(calls(cell, "predict")) for cell in notebook.cells]
    compared = set()
    for place, cell in enumerate(notebook.cells):
        if foreseen[place]:
            heading = notebook.cells[place + 1]
            assert heading.source.lstrip("#").startswith(" What happened: ")
            assert not first[place + 2], "the cell behind it is folded away"
        if found := calls(cell, "compare"):
            assert not first[place], cell.source
            compared |= set(found)
    for cell in notebook.cells:
        for name in calls(cell, "predict"):
            loop = {each for each in compared if each.startswith("f")}  # f"accuracy, {name}"
            assert name in compared or loop, f"{name} is never set beside a result"


def test_every_prediction_has_a_cell_to_write_in(notebook):
    for cell, after in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "markdown" and re.search(r"^\*\*Predict", cell.source, re.M):
            assert calls(after, "predict"), cell.source


def test_every_prediction_can_be_seen_before_its_result(notebook):
    """With each heading opened in turn, the next prediction stands outside of the fold."""
    shown = in_sight(notebook, in_jupyterlab)
    for place, cell in enumerate(notebook.cells):
        if calls(cell, "predict"):
            assert shown[place], cell.source


@pytest.mark.parametrize("name", NAMES)
def test_alt_text_is_in_the_output_and_its_code_is_folded_away(name):
    for cell in notebooks.read(name).cells:
        if cell.cell_type != "code":
            continue
        told = [
            keyword.value.value
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "alt" and isinstance(keyword.value, ast.Constant)
        ]
        if told:
            assert cell.metadata.jupyter.source_hidden, cell.source
            assert cell.metadata.cellView == "form", cell.source
            alts = [picture.alt for picture in map(picture_of, cell.outputs) if picture]
            assert set(alts) == {" ".join(text.split()) for text in told}
