"""Exercises as a learner meets them: in a real kernel, and in the chapters as they are written."""

import ast
import builtins
import re

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib import exercises
from course_lib.exercises import Question, compare, predict, progress
from course_lib.exercises.chapter_02 import ex2_3, q2_1
from course_lib.publishing import notebooks

ALL = [each for chapter in exercises.chapters() for each in exercises.exercises_of(chapter)]
QUESTIONS = [each for chapter in exercises.chapters() for each in exercises.questions_of(chapter)]


def printed(capsys, call, *arguments, **named):
    call(*arguments, **named)
    return capsys.readouterr().out.rstrip("\n")


def codes_of(each, everything):
    """What a learner may have written into an exercise's cell."""
    if not everything:
        return [each.stub]
    return [each.stub, each.solution_code, *(wrong.code for wrong in each.wrongs.values())]


def play(everything, some):
    """Cells as learners run them, in one kernel: source to outputs.

    Args:
        everything: of these exercises and questions, every cell that a learner may run.
        some: of these, the untouched one.
    """
    cells = [
        "import copy\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
        "from course_lib import profile\n"
        "from course_lib.exercises import compare, predict, progress"
    ]
    for each in [*everything, *some]:
        module = f"course_lib.exercises.chapter_{int(each.number.split('.')[0]):02d}"
        cells[0] += f"\nfrom {module} import {each.name}"
        if not isinstance(each, Question):
            cells[0] += f"\n{each.preamble}"  # as its chapter imports, further up
        else:
            cells += [each.name, f"{each.name}.answer(...)", f'{each.name}.answer("a")']
            continue
        cells += [each.cell(code) for code in codes_of(each, each in everything)]
        if each in everything:
            cells += [each.name, f"{each.name}.hint()", f"{each.name}.solution()"]
    cells += ['predict("it", ...)', 'compare("it", 0.5)', "progress()"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    return {cell.source: cell.outputs for cell in book.cells}


def plain(outputs):
    assert len(outputs) == 1, outputs
    assert outputs[0].output_type in ("display_data", "execute_result")
    assert set(outputs[0].data) == {"text/plain", "text/html"}
    return outputs[0].data["text/plain"]


@pytest.mark.parametrize(
    "everything",
    [
        pytest.param([ex2_3, q2_1], id="some"),
        pytest.param([*ALL, *QUESTIONS], id="all", marks=pytest.mark.slow),
    ],
)
def test_a_kernel_says_what_a_terminal_says(everything, capsys):
    played = play(everything, [each for each in ALL if each not in everything])
    for each in ALL:
        for code in codes_of(each, each in everything):
            here = printed(capsys, each.check, each.answer_from(code))
            assert plain(played[each.cell(code)]) == here
        if each in everything:
            (shown,) = played[f"{each.name}.solution()"]
            assert plain([shown]) == printed(capsys, each.solution)
            assert "<details open><summary" in shown.data["text/html"], "it folds away"
    for each in everything:
        assert plain(played[each.name]) == repr(each)
        if isinstance(each, Question):
            assert plain(played[f'{each.name}.answer("a")']) == printed(capsys, each.answer, "a")
            assert plain(played[f"{each.name}.answer(...)"]) == printed(capsys, each.answer)
    assert plain(played['predict("it", ...)']) == printed(capsys, predict, "it", ...)
    assert plain(played['compare("it", 0.5)']) == printed(capsys, compare, "it", 0.5)
    assert plain(played["progress()"]) == str(progress())
    for outputs in played.values():
        for text in [text for output in outputs for text in output.data.values()]:
            assert "<script" not in text
            assert not re.search(r"/(home|root|work|tmp|Users)/|0x[0-9a-f]{6}", text), text


def chapters_with_exercises():
    for name, path in notebooks.sources().items():
        if f"course_lib.exercises.chapter_{name[:2]}" in path.read_text(encoding="utf-8"):
            yield name


@pytest.mark.parametrize("name", list(chapters_with_exercises()))
def test_a_chapter_shows_each_stub_as_it_is_declared(name):
    """One source: what a learner starts from is what the tests ran."""
    book = notebooks.from_source(notebooks.sources()[name])
    code = [cell.source.strip() for cell in book.cells if cell.cell_type == "code"]
    for each in exercises.exercises_of(name):
        cells = [source for source in code if f"{each.name}.check(" in source]
        assert cells == [each.cell()]
    for each in exercises.questions_of(name):
        assert any(re.search(rf"^{each.name}\b", source, re.M) for source in code), each.name


def names_made(source):
    """Names that a script defines, at its top or anywhere inside, and those that it reads."""
    made, read = set(dir(builtins)), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            made |= {(name.asname or name.name).split(".")[0] for name in node.names}
    return made, read


@pytest.mark.parametrize("name", list(chapters_with_exercises()))
def test_answers_use_only_names_that_the_chapter_has(name):
    """A learner who types the solution into the cell must not lack an import."""
    there, _ = names_made(notebooks.sources()[name].read_text(encoding="utf-8"))
    for each in exercises.exercises_of(name):
        for code in codes_of(each, everything=True):
            made, read = names_made(code)
            assert read <= made | there, (each.number, read - made - there, code)
