"""A warm-up for chapter 00: how checking works, with the profile as its subject."""

from typing import Any

from course_lib import profile
from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import Verdict, close, mistake, not_yet, number, passed


def _judge_shown(answer: Any) -> Verdict:
    tiny = profile.named("tiny")
    mine = number(answer, "a whole number")
    pictures = tiny.train_images or 0
    if close(mine, pictures * tiny.epochs):
        return passed("That is how exercises work: check, hint, solution. On to the chapters.")
    if close(mine, pictures):
        return mistake("one_epoch")
    if close(mine, tiny.epochs * tiny.batch_size):
        return mistake("batches")
    if close(mine, -(-pictures // tiny.batch_size) * tiny.epochs):
        return mistake("steps")
    return not_yet("That isn't the number. Look at the fields that say how many, and how often.")


ex0_1 = Exercise(
    "0.1",
    "A warm-up",
    minutes=2,
    question="""
        In the profile `tiny`, how many training pictures does a network get to see in a chapter's
        main run, counting a picture again each time that it comes up?

        Look at `profile.named("tiny")` and compute it from its fields.
    """,
    answer="pictures_shown",
    stub="""
tiny = profile.named("tiny")
pictures_shown = ...
""",
    solution="""
tiny = profile.named("tiny")
pictures_shown = tiny.train_images * tiny.epochs
""",
    why="""
        An epoch is one pass over the training pictures. The batch size decides how many of them
        make one step, not how many there are.
    """,
    hints=(
        "Run `tiny` in a cell of its own: it shows its fields and their values.",
        "`train_images` is how many pictures there are; `epochs` is how often all of them come up.",
        "Multiply the two.",
    ),
    wrongs=(
        Wrong(
            "one_epoch",
            """
tiny = profile.named("tiny")
pictures_shown = tiny.train_images
""",
            """That is how many pictures there are. The network sees each of them several times: in
            how many epochs?""",
        ),
        Wrong(
            "batches",
            """
tiny = profile.named("tiny")
pictures_shown = tiny.batch_size * tiny.epochs
""",
            """That is one batch an epoch. An epoch has as many batches as it takes to go through
            all training pictures.""",
        ),
        Wrong(
            "steps",
            """
tiny = profile.named("tiny")
pictures_shown = tiny.train_images // tiny.batch_size * tiny.epochs
""",
            """That is the number of steps: batches an epoch times epochs. Each step shows a whole
            batch of pictures.""",
        ),
    ),
    judge=_judge_shown,
    preamble="from course_lib import profile\n",
    function=False,
)

q0_1 = Question(
    "0.1",
    "A page of this course shows an accuracy of 0.91, and your run prints 0.89. What now?",
    (
        Option(
            "Something on this machine is broken: run the tests until they pass.",
            """Not yet. On another kind of processor, or with another number of threads, sums are
            rounded in another order, and training can drift apart.""",
        ),
        Option(
            "First see whether profile and thread count are the page's.",
            """With those equal, on the same kind of processor, the bits are equal. In `full` the
            data and the network are others, and so are the numbers.""",
            right=True,
        ),
        Option(
            "Change the seed until your run prints what the page does.",
            "Then you would choose the result and not measure it.",
        ),
    ),
)

EXERCISES = (ex0_1,)
QUESTIONS = (q0_1,)
