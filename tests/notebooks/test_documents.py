"""Every notebook as a document: executed, in step with its source, readable by everybody.

nbval passes a notebook that was never run, and skips pictures; these tests look at what it doesn't.
"""

import ast
import importlib
import inspect
import io
import itertools
import pkgutil
import re

import pytest
from PIL import Image

import course_lib
from course_lib import evidence
from course_lib.publishing import learner, notebooks
from course_lib.publishing.pictures import picture_of

NAMES = list(notebooks.sources())
IGNORED = "nbval-ignore-output"
TAGS = {IGNORED, "raises-exception", "predict", "exercise", "solution", "setup", "keep"}
MOST_IGNORED = 4  # cells a notebook whose output may differ from run to run
LARGEST_NOTEBOOK = 2_500_000  # bytes
LARGEST_PICTURE = 300_000  # bytes
WIDEST_PICTURE = 1000  # pixels on the screen

# What a chapter has, in this order; 00 is no chapter but the door.
PARTS = (
    "What you will be able to do",
    "Pitfalls",
    "Exercises",
    "Summary",
    "Sources",
)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def notebook(name):
    stored = notebooks.read(name)
    assert stored is not None, f"{name}.ipynb is missing: make notebooks"
    return stored


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", ()))


def headings(notebook):
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```", "", cell.source, flags=re.S)
            found += [(len(m[1]), m[2].strip()) for m in re.finditer(r"^(#+) (.*)$", prose, re.M)]
    return found


def test_there_are_notebooks_and_each_has_its_source():
    stored = {path.stem for path in notebooks.notebooks_dir().glob("*.ipynb")}
    assert stored == set(NAMES) != set()


def test_script_and_notebook_are_in_step(name):
    assert notebooks.in_step(name), f"{name} differs from its source: make notebooks"


def test_executed_in_order_from_the_first_cell(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_no_error_no_stderr_and_no_output_without_a_count(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            expected = "raises-exception" in tags(cell)
            assert output.output_type != "error" or expected, cell.source
            assert output.get("name") != "stderr", output.get("text")
            if output.output_type == "execute_result":
                assert output.execution_count == cell.execution_count


def test_kernel(notebook):
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


def test_ignored_outputs_are_few_and_each_is_followed_by_an_assertion(name):
    cells = code_cells(notebooks.from_source(notebooks.sources()[name], checked=True))
    ignored = [index for index, cell in enumerate(cells) if IGNORED in tags(cell)]
    assert len(ignored) <= MOST_IGNORED
    for index in ignored:
        held = (learner.CHECK in each.metadata for each in cells[index : index + 2])
        assert any(held), cells[index].source
        assert IGNORED not in tags(cells[index + 1])


def test_nothing_is_asserted_in_a_learners_way(notebook):
    for cell in code_cells(notebook):
        if not learner.UNTOUCHED & tags(cell):
            assert not any(isinstance(each, ast.Assert) for each in ast.parse(cell.source).body)


def test_tags_are_known(notebook):
    for cell in notebook.cells:
        assert tags(cell) <= TAGS
        assert "NBVAL" not in cell.source.upper().replace("NBVAL-IGNORE-OUTPUT", "")


def pictures(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if picture := picture_of(output):
                yield cell, picture


def test_pictures_are_small_and_described(notebook):
    for cell, picture in pictures(notebook):
        assert len(picture.alt) >= 30, f"no text alternative: {cell.source}"
        assert picture.element, f"no front end shows its text alternative: {cell.source}"
        assert len(picture.data) <= LARGEST_PICTURE, cell.source
        assert picture.width <= WIDEST_PICTURE
        stored = Image.open(io.BytesIO(picture.data))
        assert stored.width == picture.width * 2, "sharp on paper"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[\s*\]\(", cell.source), "a picture without alt text"
            assert "<img" not in cell.source or "alt=" in cell.source


def test_beside_every_picture_a_printed_summary(notebook):
    """nbval skips pictures, and some readers can't see them."""
    for cell, _ in pictures(notebook):
        assert any(output.get("name") == "stdout" for output in cell.outputs), cell.source


def test_size(name):
    assert notebooks.notebook_path(name).stat().st_size <= LARGEST_NOTEBOOK


def test_no_verdict_stands_without_interval_data_and_number(notebook):
    for cell in (each["source"] for each in notebook.cells if each["cell_type"] == "markdown"):
        cited = evidence.citations(cell)
        for each in cited:
            of, _, what = each.what.rpartition(".")
            if what != "verdict":
                continue
            main = evidence.get(each.claim).contrasts[0].name
            beside = {other.what for other in cited if other.claim == each.claim}
            every = {contrast.name for contrast in evidence.get(each.claim).contrasts}
            assert beside & ({of} if of not in ("", "effect") else {"effect", main} | every), each
            assert re.search("digit|drawn|photograph|picture|state dict|files", cell), each
            assert re.search(r"\b(draws|seeds|exact)\b", cell), each


def test_no_line_begins_with_a_citation(notebook):
    """There a Markdown reader takes the mark for the beginning of a block: the paragraph breaks."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"^\s*<!--", cell.source, re.M), cell.source


def test_headings_are_in_order(notebook):
    levels = [level for level, _ in headings(notebook)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_a_chapter_has_its_parts_in_order(name, notebook):
    if name.startswith("00"):
        pytest.skip("the door, no chapter")
    titles = [title for _, title in headings(notebook)]
    places = [titles.index(part) for part in PARTS]
    assert places == sorted(places)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "**Predict" in text
    assert re.search(r"\d+ minutes", text)


def test_a_chapter_with_exercises_ends_with_the_cell_that_keeps_the_work(name, notebook):
    keeping = [cell for cell in code_cells(notebook) if "keep" in tags(cell)]
    if not any("exercise" in tags(cell) for cell in code_cells(notebook)):
        assert keeping == []
        return
    assert keeping == [code_cells(notebook)[-1]]
    assert keeping[0].source.endswith(
        "\nfrom course_lib.setup import hosting\n\nhosting.take_home()"
    )
    (said,) = keeping[0].outputs
    assert said.text == "Your own machine: what you did stays here.\n"


def test_outputs_name_no_place_of_one_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            text = output.get("text", "") or str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"/(home|root|work|tmp|Users)/", text), text


def library_names():
    """Every public function and class of course_lib, by the module that defines it."""
    found = {}
    for info in pkgutil.walk_packages(course_lib.__path__, "course_lib."):
        module = importlib.import_module(info.name)
        for name, member in vars(module).items():
            ours = getattr(member, "__module__", None) == info.name
            if ours and (inspect.isfunction(member) or inspect.isclass(member)):
                found[name] = info.name
    return {name: where for name, where in found.items() if name[0] != "_" and name != "main"}


def test_no_notebook_has_a_copy_of_a_helper(name):
    source = notebooks.sources()[name].read_text(encoding="utf-8")
    defined = {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    again = defined & set(library_names())
    assert not again, f"{again} stand in course_lib: import them"
