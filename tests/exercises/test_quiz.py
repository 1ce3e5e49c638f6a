"""Questions: every option explained, readable without scripts, the same bytes each time."""

import re

import pytest

from course_lib import exercises
from course_lib.errors import CourseError
from course_lib.exercises.quiz import Option, Question

ALL = [each for chapter in exercises.chapters() for each in exercises.questions_of(chapter)]


@pytest.fixture(params=ALL, ids=lambda question: question.number)
def question(request):
    return request.param


def test_every_answer_is_explained(question, capsys):
    for letter, option in question.options.items():
        for written in (letter, letter.upper(), f" ({letter})", f"{letter}."):
            question.answer(written)
            out = capsys.readouterr().out
            word = "right" if option.right else "not right"
            assert out.startswith(f"Question {question.number}, {letter}: {word}.\n")
            assert " ".join(option.why.split()) in " ".join(out.split())


def test_no_answer_and_no_such_option_are_no_errors(question, capsys):
    for nothing in (None, ...):
        question.answer(nothing)
        assert "not answered yet" in capsys.readouterr().out
    question.answer()
    assert "not answered yet" in capsys.readouterr().out
    for odd in ("z", "", 3, ["a"], "`" * 100):
        question.answer(odd)
        out = capsys.readouterr().out
        assert "no such option" in out
        assert "a, b" in out


def test_shown_without_giving_the_answer_away(question):
    plain, html = repr(question), question._repr_html_()
    for option in question.options.values():
        assert option.text in " ".join(plain.split())
        assert " ".join(option.why.split()) not in " ".join(plain.split())
    folded_away = re.sub(r"</summary>.*?</details>", "</summary></details>", html)
    assert "Right" not in folded_away
    assert html.count("<details>") == html.count("</details>") == len(question.options)
    assert "<script" not in html
    assert " id=" not in html
    assert html == question._repr_html_()


def test_texts_are_worth_reading(question):
    reasons = [" ".join(option.why.split()) for option in question.options.values()]
    assert len(set(reasons)) == len(reasons) >= 2
    assert all(30 <= len(reason) <= 400 for reason in reasons)
    for text in (question.text, *reasons):
        assert text.count("`") % 2 == 0
        assert text[-1] in ".?!"


def test_right_answers_are_not_always_the_same_letter_or_the_longest():
    assert len({question.right for question in ALL}) >= 2
    longest = [
        max(question.options, key=lambda letter: len(question.options[letter].text))
        for question in ALL
    ]
    given_away = sum(q.right == letter for q, letter in zip(ALL, longest, strict=True))
    assert given_away <= 0.7 * len(ALL)


def test_exactly_one_right_option_is_needed():
    good, bad = Option("a", "b", right=True), Option("c", "d")
    for options in ((good,), (bad, bad), (good, good, bad)):
        with pytest.raises(CourseError, match="one of them right"):
            Question("9.9", "What?", options)
