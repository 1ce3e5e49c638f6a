"""Every exercise of every chapter: what the check says about known answers is what it should."""

import copy
import itertools
import linecache
import random
import re

import numpy
import pytest
import torch

from course_lib import exercises
from course_lib.exercises import NOT_ATTEMPTED
from course_lib.exercises.verdicts import NOT_ATTEMPTED_YET, NOT_YET, PASSED, STOPPED
from tests.exercises.alternatives import ALTERNATIVES

ALL = [each for chapter in exercises.chapters() for each in exercises.exercises_of(chapter)]
WRONGS = [(each, wrong) for each in ALL for wrong in each.wrongs.values()]
CELLS = itertools.count()
OTHERS = [(each, code) for each in ALL for code in ALTERNATIVES.get(each.number, ())]


def by_number(value):
    return getattr(value, "number", None) or getattr(value, "name", None) or ""


def run_cell(code):
    """Run code as a notebook does, which keeps the source of its cells."""
    name = f"<cell {next(CELLS)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


@pytest.fixture(params=ALL, ids=by_number)
def exercise(request):
    return request.param


@pytest.fixture
def fresh(exercise):
    """A copy, so that hints begin at the first."""
    return copy.copy(exercise)


def test_solution_passes(exercise):
    verdict = exercise.verdict(exercise.answer_from(exercise.solution_code))
    assert verdict.kind == PASSED, verdict
    assert verdict.message


def test_nothing_is_not_attempted(exercise):
    for blank in (NOT_ATTEMPTED, None, ..., [..., ...], (...,)):
        verdict = exercise.verdict(blank)
        assert verdict.kind == NOT_ATTEMPTED_YET
        assert exercise.answer in verdict.message


def test_untouched_stub_is_not_attempted(exercise):
    assert exercise.verdict(exercise.answer_from(exercise.stub)).kind == NOT_ATTEMPTED_YET
    commented = "# a remark\n\n" + re.sub(r"$", "  # and one here", exercise.stub, count=1)
    assert exercise.verdict(exercise.answer_from(commented)).kind == NOT_ATTEMPTED_YET


@pytest.mark.parametrize(("exercise", "wrong"), WRONGS, ids=by_number)
def test_each_wrong_answer_gets_its_message(exercise, wrong):
    verdict = exercise.verdict(exercise.answer_from(wrong.code))
    assert verdict.mistake == wrong.name, verdict
    assert wrong.message in verdict.message
    assert verdict.kind == (STOPPED if wrong.raises else NOT_YET)


@pytest.mark.parametrize(("exercise", "code"), OTHERS, ids=by_number)
def test_other_right_answers_pass(exercise, code):
    verdict = exercise.verdict(exercise.answer_from(code))
    assert verdict.kind == PASSED, verdict


def test_there_is_another_right_answer(exercise):
    assert ALTERNATIVES.get(exercise.number)


def test_messages_differ_and_are_worth_reading(exercise):
    messages = [wrong.message for wrong in exercise.wrongs.values()]
    assert 2 <= len(set(messages)) == len(messages)
    assert all(40 <= len(message) <= 500 for message in messages)
    texts = [*messages, *exercise.hints, exercise.question, exercise.why]
    for text in texts:
        assert text.strip() == text
        assert text.count("`") % 2 == 0, text
        assert text[-1] in ".?!):`" or text.endswith("..."), text


def test_checking_twice_says_the_same_and_changes_nothing(exercise, capsys):
    torch.manual_seed(3)
    codes = [exercise.stub, exercise.solution_code]
    codes += [wrong.code for wrong in exercise.wrongs.values()]
    for code in codes:
        answer = exercise.answer_from(code)
        before = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
        said = []
        for _ in range(2):
            exercise.check(answer)
            said.append(capsys.readouterr())
        after = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
        assert said[0] == said[1]
        assert not said[0].err
        assert torch.equal(before[0], after[0])
        assert before[1:] == after[1:]


def test_the_same_message_whatever_the_random_state(exercise):
    answer = exercise.answer_from(exercise.solution_code)
    first = exercise.verdict(answer)
    torch.manual_seed(99)
    with torch.no_grad():
        assert exercise.verdict(answer) == first


def test_hints_come_one_by_one_and_end(fresh, capsys):
    assert 2 <= len(fresh.hints) <= 5
    for count in range(1, len(fresh.hints) + 1):
        fresh.hint()
        out = capsys.readouterr().out
        assert out.count(f"of {len(fresh.hints)}: ") == count
        assert "no more hints" not in out
    for _ in range(2):
        fresh.hint()
        out = capsys.readouterr().out
        assert "no more hints" in out
        assert out.count(f"of {len(fresh.hints)}: ") == len(fresh.hints)


def test_solution_is_shown_with_its_reason(exercise, capsys):
    exercise.solution()
    out = capsys.readouterr().out
    for line in exercise.solution_code.splitlines():
        assert line in out
    assert exercise.why.split()[-1] in out


def test_its_cell_runs_by_itself(exercise, capsys):
    chapter = exercise.number.split(".")[0]
    names = f"from course_lib.exercises.chapter_{int(chapter):02d} import {exercise.name}\n"
    for code, kind in ((None, NOT_ATTEMPTED_YET), (exercise.solution_code, PASSED)):
        run_cell(names + exercise.preamble + exercise.cell(code))
        assert capsys.readouterr().out.startswith(f"Exercise {exercise.number}: {kind}.")


def test_numbers_are_unique_and_in_order():
    for chapter in exercises.chapters():
        numbers = [each.number for each in exercises.exercises_of(chapter)]
        assert numbers == [f"{int(chapter)}.{place + 1}" for place in range(len(numbers))]
        questions = [each.number for each in exercises.questions_of(chapter)]
        assert questions == [f"{int(chapter)}.{place + 1}" for place in range(len(questions))]
        if chapter != "00":
            assert len(numbers) >= 6
            assert 3 <= len(questions) <= 6


def test_a_chapter_takes_names_from_its_module():
    for each in ALL:
        module = __import__(
            f"course_lib.exercises.chapter_{int(each.number.split('.')[0]):02d}", fromlist=["x"]
        )
        assert getattr(module, each.name) is each


def test_plain_text_fits_the_page(exercise, capsys):
    print(repr(exercise))
    exercise.solution()
    for wrong in exercise.wrongs.values():
        exercise.check(exercise.answer_from(wrong.code))
    for line in capsys.readouterr().out.splitlines():
        assert len(line) <= 100, line


def test_names_that_only_begin_alike_are_told_apart():
    (each,) = (each for each in exercises.exercises_of("01") if each.number == "1.2")
    code = """
def numbers_that_learn(model, frozen):
    kept = [p for n, p in model.named_parameters() if not n.startswith(tuple(frozen))]
    return sum(p.numel() for p in kept)
"""
    assert each.verdict(each.answer_from(code)).mistake == "substring"


@pytest.mark.parametrize("number", ["0.1", "1.1"])
def test_a_value_is_not_called_a_function(number):
    (each,) = (each for each in ALL if each.number == number)
    for answer in (torch.nn.ReLU(), {}, {1: 2}, b"x"):
        assert "function" not in each.verdict(answer).message
