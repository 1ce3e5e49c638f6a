"""Predictions: set beside what happened, silent about what was not written down."""

import numpy
import pytest
import torch

from course_lib.exercises import compare, predict, prose
from course_lib.exercises.predictions import NO_GUESS, _noted


@pytest.fixture(autouse=True)
def _none_noted():
    _noted.clear()
    yield
    _noted.clear()


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_nothing_written_down_is_stable_and_kind(capsys):
    for blank in (..., None, [..., ...]):
        predict("accuracy", blank)
        assert said(capsys) == (
            "No prediction for accuracy yet. Put yours in place of `...`; a guess will do."
        )
        compare("accuracy", 0.9137)
        assert said(capsys) == (
            "What happened, accuracy: 0.91. You wrote down no prediction for accuracy."
        )


@pytest.mark.parametrize(
    ("guess", "result", "options", "text"),
    [
        (0.8, 0.913, {}, "You expected 0.80. It came out 0.11 more than you thought: why?"),
        (0.95, 0.91, {}, "You expected 0.95. It came out 0.04 less than you thought: why?"),
        (0.91, 0.9137, {}, "That was a good guess."),
        (0.8, 0.9, {"within": 0.1}, "That was a good guess."),
        (2, 3.7, {"digits": 0, "unit": "x"}, "You expected 2 x. It came out 2 x more"),
        (numpy.float32(0.5), torch.tensor(0.5), {}, "That was a good guess."),
        ("ours", "Ours", {}, "So it was."),
        (True, True, {}, "So it was."),
        ("ours", "theirs", {}, "It came out otherwise"),
        (["a", "b", "c"], ["a", "b", "c"], {}, "So it was."),
        (("b", "a", "c"), ["a", "b", "c"], {}, "2 of 3 pairs stand in the order that came out."),
        (["c", "b", "a"], ["a", "b", "c"], {}, "0 of 3 pairs"),
        (["a", "x"], ["a", "b"], {}, "doesn't hold the same names"),
        (["a", "a"], ["a", "b"], {}, "doesn't hold the same names"),
        (0.5, "ours", {}, "That is a number, the result a choice"),
        ("ours", ["a"], {}, "That is a choice, the result an order"),
    ],
)
def test_side_by_side(guess, result, options, text, capsys):
    predict("it", guess)
    assert said(capsys).startswith("Noted. You expect it to be ")
    for _ in range(2):
        compare("it", result, **options)
        assert text in said(capsys)


def test_a_misspelt_name_finds_its_neighbour(capsys):
    predict("accuracy", 0.8)
    compare("acuracy", 0.9)
    assert "Did you mean 'accuracy'?" in said(capsys)


def test_a_prediction_can_be_changed_and_taken_back(capsys):
    predict("it", 1)
    predict("it", 2)
    compare("it", 2)
    assert "good guess" in said(capsys)
    predict("it", ...)
    compare("it", 2)
    assert "no prediction for it" in said(capsys)


def test_a_list_that_is_changed_later_stays_what_was_predicted(capsys):
    order = ["a", "b"]
    predict("it", order)
    order.reverse()
    compare("it", ["a", "b"])
    assert "So it was." in said(capsys)


def test_an_output_says_by_a_mark_that_nothing_was_predicted(monkeypatch):
    """Handouts go by it; see course_lib.publishing.handouts.outputs."""
    marks = []
    monkeypatch.setattr(prose, "show", lambda plain, html, about=None: marks.append(about))
    compare("it", 3)
    predict("it", 2)
    compare("it", 3)
    assert marks == [{NO_GUESS: True}, None, None]
