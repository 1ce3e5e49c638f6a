"""Exercises that answer, questions with every option explained, predictions, your progress.

In a notebook::

    from course_lib.exercises.chapter_02 import ex2_1, q2_1

    ex2_1.check(channel_numbers)   # right, or what about it isn't; .hint() and .solution() help
    q2_1.answer("b")

Exercises, their solutions and the usual wrong answers are declared in one module a chapter and are
tested there: what a check says about an answer is itself checked.
"""

from course_lib.exercises.core import NOT_ATTEMPTED, Exercise, Wrong
from course_lib.exercises.predictions import compare, predict
from course_lib.exercises.progress_table import progress
from course_lib.exercises.quiz import Question
from course_lib.exercises.registry import chapters, exercises_of, questions_of
from course_lib.exercises.verdicts import Verdict

__all__ = [
    "NOT_ATTEMPTED",
    "Exercise",
    "Question",
    "Verdict",
    "Wrong",
    "chapters",
    "compare",
    "exercises_of",
    "predict",
    "progress",
    "questions_of",
]
