"""What stands in the editions: everything for those who teach, no answers for those who learn."""

import itertools
import re

import pytest

from course_lib.exercises import exercises_of, questions_of
from course_lib.publishing.handouts import (
    STUDENT,
    TEACHER,
    HandoutError,
    editions,
    make,
    page,
    timing,
)
from course_lib.publishing.handouts.document import (
    Blank,
    Box,
    Choices,
    Formula,
    Heading,
    NewPage,
    Output,
    Paragraph,
    Picture,
    Program,
    Room,
    Table,
    walk,
    words,
)


def blocks(document, kind):
    return [each for each in walk(document.blocks) if isinstance(each, kind)]


def boxes(document, kind):
    return [each for each in blocks(document, Box) if each.kind == kind]


def asked(document):
    """The exercises and questions of chapter 02 that are in a document."""
    titles = {box.title.split(" (")[0] for box in blocks(document, Box)}
    return (
        [each for each in exercises_of("02") if f"Exercise {each.number}" in titles],
        [each for each in questions_of("02") if f"Question {each.number}" in titles],
    )


def squeezed(text):
    return re.sub(r"\W+", " ", text)


def test_each_exercise_is_there_with_room_to_write(editions, notebook):
    student = editions[STUDENT]
    exercises, questions = asked(student)
    names = re.findall(r"^ex2_\d$", "\n".join(cell.source for cell in notebook.cells), re.M)
    assert [each.name for each in exercises] == names != []
    assert questions
    for box, exercise in zip(boxes(student, "exercise"), exercises, strict=True):
        assert exercise.stub in [
            each.code for each in walk(box.inside) if isinstance(each, Program)
        ]
        assert sum(each.lines for each in walk(box.inside) if isinstance(each, Room)) >= 6
        assert squeezed(exercise.question.split(".")[0]) in squeezed(words(box))


def test_no_solution_and_no_explanation_in_the_student_edition(editions):
    student = editions[STUDENT]
    exercises, _ = asked(student)
    said = squeezed(page.html(student))
    all_words = squeezed(words(student.blocks))
    for exercise in exercises:
        for secret in (exercise.solution_code, exercise.why, *exercise.hints):
            assert squeezed(secret) not in said
            assert squeezed(secret) not in all_words
        for wrong in exercise.wrongs.values():
            assert squeezed(wrong.message) not in all_words
    assert not boxes(student, "teacher")


def test_every_solution_hint_and_wrong_answer_in_the_teacher_edition(editions):
    teacher = editions[TEACHER]
    exercises, _ = asked(teacher)
    programs = [each.code for each in blocks(teacher, Program)]
    said = squeezed(words(teacher.blocks).replace("`", ""))
    for exercise in exercises:
        assert exercise.solution_code in programs
        for wrong in exercise.wrongs.values():
            assert wrong.code in programs
            assert squeezed(wrong.message.replace("`", "")).strip() in said
        for text in (exercise.why, *exercise.hints):
            assert squeezed(text.replace("`", "")).strip() in said
    to_predict = [each for box in boxes(teacher, "prediction") for each in walk(box.inside)]
    assert len(blocks(teacher, Room)) == sum(isinstance(each, Room) for each in to_predict)


def test_answers_stand_on_a_page_of_their_own_at_the_end(editions):
    student = editions[STUDENT]
    _, questions = asked(student)
    last = max(i for i, each in enumerate(student.blocks) if isinstance(each, NewPage))
    before, after = student.blocks[:last], student.blocks[last + 1 :]
    assert words(after[0]) == "Answers to the questions"
    for question in questions:
        for option in question.options.values():
            why = squeezed(option.why.replace("`", "")).strip()
            assert why in squeezed(words(after))
            assert why not in squeezed(words(before))
    assert all(each.right is None for each in walk(before) if isinstance(each, Choices))


def test_the_teacher_sees_the_right_option_ticked(editions):
    teacher = editions[TEACHER]
    _, questions = asked(teacher)
    assert [each.right for each in blocks(teacher, Choices)] == [each.right for each in questions]


def test_timings_cover_every_section_and_add_up(editions):
    teacher = editions[TEACHER]
    table = blocks(teacher, Table)[0]
    sections = {words(each) for each in teacher.blocks if getattr(each, "level", 0) == 2}
    named = {words(row[0]) for row in table.rows}
    assert sections - {"For the teacher"} <= named
    minutes = [int(words(row[1])) for row in table.rows]
    assert sum(minutes[:-1]) == minutes[-1]
    exercises, questions = asked(teacher)
    expected = sum(each.minutes for each in exercises) + timing.QUESTION * len(questions)
    (of_exercises,) = [int(words(row[1])) for row in table.rows if words(row[0]) == "Exercises"]
    assert of_exercises == round(expected)


def test_no_talking_point_is_lost(editions):
    """Those of sections that a notebook lacks stand at the front."""
    from course_lib.publishing.handouts import markdown, talking

    teacher = editions[TEACHER]
    text = (talking.FOLDER / "02.md").read_text(encoding="utf-8")
    said = words(teacher.blocks)
    for block in walk(markdown.read(text)):
        if isinstance(block, Paragraph):
            assert words(block) in said


def test_predictions_have_a_line_and_what_happened_stays(small):
    student = make("02_hotdog", small, STUDENT)
    assert [each.label for each in blocks(student, Blank)] == ["how many"]
    said = words(student.blocks)
    assert "What happened: 3." in said
    assert "no prediction" not in said
    assert "none yet" not in said


def test_no_page_says_that_nothing_was_predicted(editions):
    """On paper it may have been. The stored outputs say so by a mark, which `compare` gives."""
    for document in editions.values():
        assert "What happened" in words(document.blocks)
        assert "no prediction" not in words(document.blocks)


def test_a_request_to_predict_without_blanks_gets_room(small):
    small = small.copy()
    small.cells = [cell for cell in small.cells if "predict(" not in cell.source]
    student = make("02_hotdog", small, STUDENT)
    (box,) = boxes(student, "prediction")
    assert isinstance(box.inside[0], Room)


def test_tables_formulas_and_pictures_become_what_they_are(small):
    student = make("02_hotdog", small, STUDENT)
    tables = blocks(student, Table)
    assert [words(each.rows) for each in tables] == ["one3", "first12second7"]
    assert tables[1].right == (False, True)
    assert tables[1].row_headings
    assert len(blocks(student, Formula)) == 2
    (picture,) = blocks(student, Picture)
    assert picture.alt == "A white rectangle."
    assert picture.inches == 6.4
    assert "0.3" in words(student.blocks)
    assert "evidence" not in words(student.blocks)
    assert any("wide wide" in each.text for each in blocks(student, Output))
    assert not any("import ex2_1" in each.code for each in blocks(student, Program))


def test_the_title_is_that_of_the_notebook_and_headings_go_down_one_by_one(editions):
    for document in editions.values():
        levels = [each.level for each in document.blocks if isinstance(each, Heading)]
        assert document.title.startswith("02  ")
        assert 1 not in levels
        assert levels[0] == 2 or document.edition == STUDENT
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_a_notebook_without_a_title_is_refused(small):
    small = small.copy()
    small.cells = small.cells[1:]
    with pytest.raises(HandoutError, match="title"):
        make("02_hotdog", small, STUDENT)


def test_a_picture_without_a_text_alternative_is_refused():
    with pytest.raises(HandoutError, match="text alternative"):
        Picture(b"", "png", " ", 3.0)


def test_chapters_without_exercises_can_be_handed_out(small):
    small = small.copy()
    small.cells = small.cells[:3]
    document = editions.make("99_other", small, TEACHER)
    assert document.title == "99  A small page"
