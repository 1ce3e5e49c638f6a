"""The engine: whatever comes in, one kind answer comes out, and nothing else changes."""

import copy
import operator
import random
import types

import numpy
import pytest
import torch
from torch import nn

from course_lib.errors import CourseError
from course_lib.exercises import core, prose
from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.verdicts import (
    NOT_ATTEMPTED_YET,
    NOT_YET,
    PASSED,
    STOPPED,
    Unfinished,
    mistake,
    not_yet,
    number,
    numbers,
    passed,
    returned,
)

STUB = "def twice(x):\n    return ..."


def made(judge, function=True, **more):
    settings = {
        "minutes": 1,
        "question": "Return `2 * x`.",
        "answer": "twice",
        "stub": STUB,
        "solution": "def twice(x):\n    return 2 * x",
        "why": "So.",
        "hints": ("one", "two"),
        "wrongs": (Wrong("same", "def twice(x):\n    return x", "That is `x` itself."),),
        **more,
    }
    return Exercise("9.1", "Twice", judge=judge, function=function, **settings)


def judge_twice(answer):
    value = number(answer(3), "a number")
    if value == 3:
        return mistake("same")
    return passed("Right.") if value == 6 else not_yet("Not twice.")


@pytest.fixture
def twice():
    return made(judge_twice)


def learner(twice, code):
    return twice.answer_from(code)


def test_kinds_of_verdicts(twice, capsys):
    cases = {
        "def twice(x):\n    return x + x": (PASSED, "Right."),
        "def twice(x):\n    return x * 1": (NOT_YET, "That is `x` itself."),
        "def twice(x):\n    return 5": (NOT_YET, "Not twice."),
        "def twice(x):\n    raise NotImplementedError": (NOT_ATTEMPTED_YET, "NotImplementedError"),
        "def twice(x):\n    return None": (NOT_YET, "Is there a `return`?"),
        "def twice(x):\n    y = 1\n    return ...": (NOT_YET, "still returns `...`"),
        "def twice(x):\n    return 'six'": (NOT_YET, "returns a text"),
        "def twice(x):\n    return True": (NOT_YET, "a bool"),
        "def twice():\n    return 6": (STOPPED, "Keep the arguments"),
        "def twice(x):\n    return 2 * xx": (STOPPED, "isn't defined"),
    }
    for code, (kind, text) in cases.items():
        verdict = twice.check(learner(twice, code))
        assert (verdict.kind, verdict.passed) == (kind, kind == PASSED), code
        assert text in verdict.message, code
        out = capsys.readouterr().out
        assert out.startswith(f"Exercise 9.1: {kind}.\n")
        assert ("ex9_1.hint()" in out) == (kind != PASSED)


def test_an_error_is_told_with_its_line_and_no_traceback(twice, capsys):
    code = """
def helper(values):
    return values["b"]


def twice(x):
    values = {"a": x}
    return helper(values)
"""
    twice.check(learner(twice, code))
    out = capsys.readouterr().out
    assert 'stopped in line 3:\n\n    return values["b"]\n' in out
    assert "KeyError: 'b'" in out
    assert "Traceback" not in out
    assert "/" not in out
    assert len(out.splitlines()) < 12


def test_an_error_inside_a_library_names_the_learners_line(twice):
    code = "def twice(x):\n    layer = nn.Linear(2, 2)\n    return layer(torch.zeros(1, 3))"
    message = twice.verdict(learner(twice, code)).message
    assert "line 3" in message
    assert "return layer(torch.zeros(1, 3))" in message
    assert "in_features" in message


def test_an_error_without_source_still_has_a_line_number(twice):
    space = {}
    exec("def twice(x):\n    return 1 / 0", space)
    assert "stopped in line 2. The error" in twice.verdict(space["twice"]).message


def test_an_error_of_the_judge_is_no_fault_of_the_learners_line():
    exercise = made(operator.attrgetter("weight"))
    verdict = exercise.verdict(exercise.answer_from(exercise.solution_code))
    assert verdict.kind == STOPPED
    assert "could not be used" in verdict.message


def test_long_errors_are_cut(twice):
    verdict = twice.verdict(learner(twice, "def twice(x):\n    raise ValueError('long ' * 1000)"))
    assert len(verdict.message) < 600


def test_backticks_in_errors_stay_balanced(twice):
    verdict = twice.verdict(learner(twice, "def twice(x):\n    raise ValueError('use `x')"))
    assert verdict.message.split("\n\n")[-1] == "The error was `ValueError: use 'x`"


def test_interrupting_is_not_caught(twice):
    def stop(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        twice.check(stop)


def test_the_function_itself_is_wanted(twice):
    assert "without parentheses" in twice.verdict(6).message
    assert "a whole number" in twice.verdict(6).message


def test_callables_of_other_kinds_are_fine(twice):
    class Twice:
        def __call__(self, x):
            return 2 * x

    assert twice.verdict(Twice()).passed
    assert twice.verdict(lambda x: 2 * x).passed


def test_a_value_is_wanted():
    exercise = made(
        lambda value: passed("Right.") if number(value, "a number") == 6 else not_yet("No."),
        function=False,
        stub="twice = ...",
        solution="twice = 6",
    )
    for value in (6, 6.0, torch.tensor(6), torch.tensor([6.0]), numpy.float32(6), numpy.int64(6)):
        assert exercise.verdict(value).passed, value
    for value in ("6", [6], torch.zeros(2), object(), True, {}, float):
        assert exercise.verdict(value).kind == NOT_YET, value
    assert "Call it" in exercise.verdict(lambda: 6).message
    assert exercise.verdict(exercise.answer_from(exercise.stub)).kind == NOT_ATTEMPTED_YET


def test_a_stub_in_other_layout_and_without_source_is_untouched(twice):
    again = "def   twice( x ):  # what now?\n\n    return   ...\n"
    assert twice.verdict(learner(twice, again)).kind == NOT_ATTEMPTED_YET
    space = {}
    exec(compile(STUB, "<gone>", "exec"), space)
    assert twice.verdict(space["twice"]).kind == NOT_ATTEMPTED_YET
    exec(compile("def twice(x):\n    return 2 * x", "<gone>", "exec"), space)
    assert twice.verdict(space["twice"]).kind == PASSED


def test_bytecode_comparison_goes_into_inner_functions():
    def of(code):
        space = {}
        exec(compile(code, "<gone>", "exec"), space)
        return space["f"]

    outer = "def f():\n    def g():\n        return {}\n    return g"
    assert core.same_function(of(outer.format(1)), of("\n" + outer.format(1)))
    for other in ("2", "True", "1.0", "(1, 2)"):
        assert not core.same_function(of(outer.format(1)), of(outer.format(other)))


def test_answers_are_judged_on_a_copy():
    seen = []

    def judge(model):
        seen.append(model)
        with torch.no_grad():
            model.weight.zero_()
        model.eval()
        return passed("Done.")

    exercise = made(judge, function=False, stub="twice = ...", solution="twice = nn.Linear(2, 2)")
    model = nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    assert exercise.verdict(model).passed
    assert seen[0] is not model
    assert model.training
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in before)
    generator = (layer for layer in [model])
    assert "can't be copied" in exercise.verdict(generator).message


def test_streams_and_settings_are_put_back(twice):
    def meddle(x):
        random.seed(1)
        numpy.random.seed(1)
        torch.manual_seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        raise ValueError

    random.seed(5)
    numpy.random.seed(5)
    torch.manual_seed(5)
    before = random.random(), numpy.random.rand(), torch.rand(1)
    random.seed(5)
    numpy.random.seed(5)
    torch.manual_seed(5)
    twice.verdict(meddle)
    assert before == (random.random(), numpy.random.rand(), torch.rand(1))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_two_wrong_answers_of_one_name_are_refused():
    wrong = Wrong("same", "", "x")
    with pytest.raises(CourseError, match="two wrong answers"):
        made(judge_twice, wrongs=(wrong, wrong))


def test_a_known_error_adds_its_message():
    wrong = Wrong(
        "zero", "def twice(x):\n    return x / 0", "You divide by nothing.", raises="Zero"
    )
    exercise = made(judge_twice, wrongs=(wrong,))
    verdict = exercise.verdict(exercise.answer_from(wrong.code))
    assert (verdict.kind, verdict.mistake) == (STOPPED, "zero")
    assert "line 2" in verdict.message
    assert "You divide by nothing." in verdict.message


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, 2, 3]),
        torch.tensor([1, 2, 3]),
        torch.ones(1, 3, 1, 1) * torch.tensor([1.0, 2, 3]).view(3, 1, 1),
        [1, 2, 3],
        (1.0, 2, 3),
        numpy.array([1, 2, 3]),
        [torch.tensor(1.0), torch.tensor(2), numpy.float64(3)],
        nn.Parameter(torch.tensor([1.0, 2, 3])),
    ],
)
def test_numbers_in_any_dress(value):
    assert numbers(value, (3,), "three numbers").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "value", [None, ..., "abc", [1, 2], torch.ones(3, 2), object(), [[1], [2, 3]]]
)
def test_what_are_no_numbers(value):
    with pytest.raises(Unfinished):
        numbers(value, (3,), "three numbers")


def test_returned():
    assert returned([], list, "a list") == []
    for value, text in (
        (None, "None"),
        (..., "still"),
        ({}, "a dictionary"),
        (print, "a function"),
    ):
        with pytest.raises(Unfinished, match=text):
            returned(value, list, "a list")


def test_prose_in_lines_and_in_html():
    text = "One `a < b`\nand two.\n\n- first\n- second\n  goes on\n\n    x = 1\n\n    y = 2\n\n"
    text += "*End* & **out**, 2 * 3 * 4, `a*b*c`."
    assert prose.to_plain(text) == (
        "One `a < b` and two.\n\n- first\n- second goes on\n\n    x = 1\n\n    y = 2"
        "\n\nEnd & out, 2 * 3 * 4, `a*b*c`."
    )
    assert prose.to_html(text) == (
        "<p>One <code>a &lt; b</code> and two.</p><ul><li>first</li><li>second goes on</li></ul>"
        '<pre style="margin: 0 0 1em 0"><code>x = 1\n\ny = 2</code></pre>'
        "<p><em>End</em> &amp; <strong>out</strong>, 2 * 3 * 4, <code>a*b*c</code>.</p>"
    )
    assert max(map(len, prose.to_plain("word " * 100).splitlines())) <= prose.WIDTH


def test_in_a_notebook_it_is_displayed_with_text_and_html(twice, monkeypatch, capsys):
    shown = []
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    verdict = twice.check(lambda x: x)
    assert capsys.readouterr().out == ""
    assert set(shown[0]) == {"text/plain", "text/html"}
    assert "not yet" in shown[0]["text/plain"]
    assert "not yet" in shown[0]["text/html"]
    assert verdict._ipython_display_() is None


def test_the_question_shows_itself(twice):
    assert repr(twice).splitlines()[0] == "Exercise 9.1: Twice (1 minutes)"
    assert "<code>2 * x</code>" in twice._repr_html_()


def test_every_check_draws_the_same_random_numbers():
    drawn = []

    def judge(answer):
        drawn.append((random.random(), numpy.random.rand(), torch.rand(1).item()))
        return passed("Right.")

    exercise = made(judge)
    for seed in (1, 2):
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        exercise.verdict(lambda x: 2 * x)
    assert drawn[0] == drawn[1]
