"""Questions: every option explained, readable without scripts, the same bytes each time."""

import re
from collections import Counter

import pytest

from course_lib import exercises
from course_lib.errors import CourseError
from course_lib.exercises import progress_file, prose
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
            why = prose.inline_plain(" ".join(option.why.split()))
            assert why in " ".join(out.split())


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


LEARNERS = ["", *(f"learner {number}@somewhere" for number in range(30))]


@pytest.fixture
def learner(monkeypatch):
    """Be somebody else."""

    def become(name):
        monkeypatch.setattr(progress_file, "learner", lambda: name)

    return become


@pytest.mark.parametrize("name", LEARNERS[:8])
def test_the_letters_of_right_answers_are_balanced_for_every_learner(name, learner):
    learner(name)
    counted = Counter(question.right for question in ALL)
    expected = Counter()
    for question in ALL:
        for letter in question.options:
            expected[letter] += 1 / len(question.options)
    assert sum(expected.values()) == pytest.approx(len(ALL))
    for letter, mean in expected.items():  # three standard deviations of a fair draw
        assert abs(counted[letter] - mean) <= 3 * mean**0.5, (letter, counted)


def test_the_order_is_the_learners_own_and_stays(question, learner):
    orders = set()
    for name in LEARNERS:
        learner(name)
        shown = [option.text for option in question.options.values()]
        assert shown == [option.text for option in question.options.values()]
        assert sorted(shown) == sorted(option.text for option in question.printed.values())
        orders.add(tuple(shown))
    assert len(orders) > 3


def test_a_letter_means_what_the_learner_was_shown(question, learner, capsys):
    learner("somebody@somewhere")
    unseen = Question(question.number, question.text, tuple(question.printed.values()))
    if unseen.options != unseen.printed:
        for letter in unseen.options:
            unseen.answer(letter)
            assert f"Run the cell `{unseen.name}` first" in capsys.readouterr().out
    shown = " ".join(repr(unseen).split())
    for letter, option in unseen.options.items():
        assert f"- {letter}) {' '.join(option.text.split())}" in shown
        unseen.answer(letter)
        word = "right" if option.right else "not right"
        assert f"{letter}: {word}." in capsys.readouterr().out


def test_who_learns_is_known_only_where_nothing_else_is_said(monkeypatch):
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    assert progress_file.learner() == progress_file.learner() != ""
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    assert progress_file.learner() == ""
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert progress_file.learner() == ""


def test_the_length_of_an_option_gives_nothing_away():
    longest, shortest = 0, 0
    for question in ALL:
        lengths = [len(option.text) for option in question.options.values()]
        right = len(question.options[question.right].text)
        longest += right == max(lengths)
        shortest += right == min(lengths)
    assert 0.15 * len(ALL) <= longest <= 0.4 * len(ALL)
    assert 0.15 * len(ALL) <= shortest <= 0.4 * len(ALL)


def test_exactly_one_right_option_is_needed():
    good, bad = Option("a", "b", right=True), Option("c", "d")
    for options in ((good,), (bad, bad), (good, good, bad)):
        with pytest.raises(CourseError, match="one of them right"):
            Question("9.9", "What?", options)
