"""The workshop edition on real builds: few pages, no result in sight, nothing cut, all readable."""

import re
from itertools import pairwise

import pytest

from course_lib.chapters import CHAPTERS
from course_lib.exercises import exercises_of, predictions, questions_of
from course_lib.exercises.registry import chapters as with_exercises
from course_lib.publishing import notebooks
from course_lib.publishing.handouts import (
    STUDENT,
    TEACHER,
    HandoutError,
    make,
    outputs,
    paper,
    workshop,
)
from course_lib.publishing.handouts.document import Box, Document, Picture, Program, walk, words
from tests.publishing.handouts.conftest import Pages

NAMES = [each.name for each in CHAPTERS]
SCAFFOLDING = re.compile(r'alt="|^\s*assert |# fmt|# noqa|place of\s+the dots', re.M)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def notebook(name):
    return notebooks.read(name)


@pytest.fixture(scope="module")
def document(name, notebook):
    return workshop.make(name, notebook)


@pytest.fixture(scope="module")
def texts(document):
    return [" ".join(text.split()) for text in Pages(paper.pdf(document)).texts]


def results_of(notebook):
    """What came out of each prediction, as the notebook stores it: name, then value."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("metadata", {}).get(predictions.NO_GUESS):
                said = words(outputs.blocks_of([output])[0])
                found.append(re.fullmatch(r"What happened, (.*): (.*)\.", said).groups())
    return found


def test_four_to_six_pages_a_chapter(texts):
    assert 4 <= len(texts) <= 6


def test_no_page_is_for_nothing_but_notes(texts):
    for text in texts:
        said = re.sub(r"^.*?(workshop edition)|By The maintainers.*", "", text)
        assert len(said.split()) > 30


def test_nothing_is_announced_that_is_not_on_the_paper(document):
    """Prose of the notebook about a figure, a cell or a table that tells a result."""
    said = words(document.blocks)
    for gone in ("The figure below", "The figure shows", "the next cell prints", "all verdicts"):
        assert gone not in said
    for block in walk(document.blocks):
        inside = getattr(block, "inside", None) or document.blocks
        for before, after in pairwise(inside if isinstance(inside, tuple) else ()):
            if isinstance(before, workshop.Paragraph) and words(before).endswith(":"):
                assert not isinstance(after, workshop.doc.Heading), words(before)


def test_no_result_of_a_prediction_stands_in_it(document, notebook):
    """Nothing that was printed, nor a paragraph that the notebook folds away below a prediction."""
    said = words(document.blocks)
    assert "What happened," not in said
    for name, value in results_of(notebook):
        assert name in said
        if re.fullmatch(r"-?\d+\.\d{2,}|(?!100)\d{3}", value):
            assert not re.search(rf"(?<![\d.]){re.escape(value)}(?![\d.]|\d)", said), (name, value)
    _, sections = workshop.editions.maker_for("02_hotdog").sections(notebook)
    folded = [
        each
        for section in sections
        for each in section.blocks
        if getattr(each, "kind", "") == "result"
    ]
    for block in walk(folded):
        if not isinstance(block, Box | Picture | Program) and len(words(block)) > 60:
            assert words(block) not in said


def test_each_prediction_has_a_line_to_write_on(document, notebook):
    labels = {each.label for each in walk(document.blocks) if hasattr(each, "label")}
    assert {name for name, _ in results_of(notebook)} <= labels


def test_an_exercise_begins_and_ends_on_one_page(document, texts):
    boxes = [each for each in document.blocks if getattr(each, "kind", "") == "exercise"]
    assert boxes
    for box in boxes:
        last = [each for each in box.inside if words(each)][-1]  # before the room to write
        check = re.search(r"ex\d+_\d+\.check", words(last))
        ends = (check[0] if check else words(last)[-20:]).replace("_", "").replace(" ", "")
        (begins,) = (n for n, text in enumerate(texts) if box.title in text)
        assert ends in texts[begins].replace("_", "").replace(" ", "")


def test_exercises_that_do_not_fit_are_named(name, document):
    said = words(document.blocks)
    for each in exercises_of(name[:2]) if name[:2] in with_exercises() else ():
        assert f"Exercise {each.number} (" in said or f"{each.number} {each.title}" in said


def test_a_box_that_is_cut_would_be_seen(small):
    """The room in a box belongs to it: boxes of half a page stand one to a page."""
    boxes = tuple(
        Box(
            "exercise",
            f"Exercise {n}",
            (workshop.doc.Room(16), workshop.Paragraph(workshop.line("end"))),
        )
        for n in range(4)
    )
    texts = Pages(paper.pdf(Document("T", "e", "", boxes))).texts
    assert [(text.count("Exercise"), text.count("end")) for text in texts] == [(1, 1)] * 4


def test_no_edition_prints_scaffolding(name, notebook, document):
    made = [
        document,
        workshop.answers(name, notebook),
        *(make(name, notebook, e) for e in (STUDENT, TEACHER)),
    ]
    for each in made:
        said = words(each.blocks)
        programs = [p.code for p in walk(each.blocks) if isinstance(p, Program)]
        for text in [said, *programs]:
            found = SCAFFOLDING.search(text)
            # An exercise may be about an assertion, and its solution hold one.
            assert not found or _of_an_exercise(name, found[0]), (each.edition, found)


def _of_an_exercise(name, found):
    return "assert" in found and any("assert" in e.solution_code for e in exercises_of(name[:2]))


def test_no_page_for_students_holds_a_prediction_and_what_happened(name, notebook):
    for text in Pages(paper.pdf(make(name, notebook, STUDENT))).texts:
        text = " ".join(text.split())
        for label, value in results_of(notebook):
            blank = re.search(rf"Your prediction .{{0,200}}?\b{re.escape(label)}: ", text)
            assert not (blank and f"What happened, {label}: {value}" in text)


def test_the_quiz_asks_on_one_page_and_tells_nothing(name, notebook):
    sheet = workshop.quiz(name, notebook)
    questions = questions_of(name[:2]) if name[:2] in with_exercises() else []
    assert (sheet is None) == (not questions)
    if sheet is None:
        return
    said = words(sheet.blocks)
    assert paper.pages(sheet) == 1
    for question in questions:
        assert f"Question {question.number}" in said
        assert not any(option.why.strip() in said for option in question.options.values())


def test_answers_have_every_result_solution_and_explanation(name, notebook):
    answers = workshop.answers(name, notebook)
    said = words(answers.blocks)
    programs = [each.code for each in walk(answers.blocks) if isinstance(each, Program)]
    for label, value in results_of(notebook):
        assert f"What happened, {label}: {value}." in said
    if name[:2] in with_exercises():
        assert {e.solution_code for e in exercises_of(name[:2])} <= set(programs)
        for question in questions_of(name[:2]):
            assert f"Question {question.number}" in said
    paper.pdf(answers)


@pytest.mark.parametrize("kind", ["figures", "left_out"])
def test_what_is_gone_from_a_chapter_is_named(monkeypatch, kind):
    monkeypatch.setitem(workshop._about(), "04", {kind: ["A bicycle"]})
    with pytest.raises(HandoutError, match="A bicycle"):
        workshop.make("04_freezing", notebooks.read("04_freezing"))
