"""A learner goes through every notebook: each wrong answer, then the solution, in a real kernel.

The untouched notebooks are run by nbval (``make check-notebooks``). Here an exercise's cell is run
several times where it stands, after everything above it: once with each likely wrong answer, then
with the solution. So an import that a learner would miss, or a name that an earlier cell has taken,
shows up. One run of a notebook serves all its tests.
"""

import functools
import json

import nbformat
import pytest

from course_lib import exercises
from course_lib.exercises import prose
from course_lib.publishing import notebooks

pytestmark = pytest.mark.slow


def with_exercises():
    for name in notebooks.sources():
        if name[:2] in exercises.chapters():
            yield name


def answers(each):
    """Every answer that is tried, and the words that must come back: the solution comes last."""
    for wrong in each.wrongs.values():
        yield wrong.code, prose.to_plain(wrong.message)
    yield each.solution_code, f"Exercise {each.number}: passed."


@functools.cache
def played(name):
    """Outputs by (exercise, place among its answers), after one run of the whole notebook."""
    book = notebooks.from_source(notebooks.sources()[name], checked=True)
    cells, tried = [], {}
    stubs = {each.cell(): each for each in exercises.exercises_of(name)}
    for cell in book.cells:
        each = stubs.get(cell.source.strip())
        cells.append(cell)
        if each is None:
            continue
        for place, (code, _) in enumerate(answers(each)):
            cells.append(nbformat.v4.new_code_cell(each.cell(code)))
            tried[each.number, place] = cells[-1]
    book.cells = cells
    notebooks.execute(book)
    return {key: cell.outputs for key, cell in tried.items()}


@pytest.mark.parametrize("name", list(with_exercises()))
def test_wrong_answers_get_their_message_and_solutions_pass(name):
    outputs = played(name)
    assert len({number for number, _ in outputs}) == len(exercises.exercises_of(name))
    for each in exercises.exercises_of(name):
        for place, (code, words) in enumerate(answers(each)):
            shown = outputs[each.number, place]
            assert len(shown) == 1, (each.number, code, json.dumps(shown)[:500])
            text = shown[0].data["text/plain"]
            assert words in text, (each.number, code, text)
