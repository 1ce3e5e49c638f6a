"""Exercises and questions of chapter 08: strategies of transfer."""

from typing import Any

import torch
from torch.nn import functional as F

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    numbers,
    passed,
)

# --- 8.1 ------------------------------------------------------------------------------------------

# >>> adversarial
# <<< adversarial

# --- 8.2 ------------------------------------------------------------------------------------------


# >>> distillation
def _judge_soft(answer: Any) -> Verdict:
    for classes, temperature in ((5, 3.0), (4, 2.0), (7, 0.5)):
        student, teacher = torch.randn(6, classes), 2 * torch.randn(6, classes)
        s, t = (each / temperature for each in (student, teacher))
        found = numbers(answer(student, teacher, temperature), (), "one number")
        right = (t.softmax(1) * (t.log_softmax(1) - s.log_softmax(1))).sum(1).mean()
        back = (s.softmax(1) * (s.log_softmax(1) - t.log_softmax(1))).sum(1).mean()
        square = temperature**2
        if close(found, square * right, 1e-3):
            continue
        for name, wrong in (
            ("no_square", right),
            ("other_way", square * back),
            ("over_classes", square * right / classes),
            ("not_zero", -square * (t.softmax(1) * s.log_softmax(1)).sum(1).mean()),
        ):
            if close(found, wrong, 1e-3):
                return mistake(name)
        return not_yet(f"With {classes} classes and temperature {temperature:g} it is another one.")
    return passed("It is 0 where the two agree, and its gradient keeps its size as T grows.")


ex8_2 = Exercise(
    "8.2",
    "The soft half of the loss",
    minutes=8,
    question="""
        `student` and `teacher` are scores, (pictures, classes). Return the soft part of the
        distillation loss: the divergence of the student's softened answers from the teacher's, a
        mean over the pictures, times the square of the temperature. It is 0 where both agree. The
        code below is nearly right; two things are missing.
    """,
    answer="soft_part",
    stub="""
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = theirs.exp() * (theirs - mine)
    return gap.mean()
""",
    solution="""
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = theirs.exp() * (theirs - mine)
    return temperature**2 * gap.sum(dim=1).mean()
""",
    why="""
        A temperature T divides the scores by T, and the difference of the softened answers shrinks
        by about T once more: the gradient falls with the square. Undo that, and the share of soft
        and hard keeps its meaning when you try another T. And a divergence is a sum over the
        classes; only over the pictures a mean is taken. `F.kl_div` calls that `"batchmean"`.
    """,
    hints=(
        "`gap` has a number for each picture and class. What is a divergence over the classes?",
        "By how much do the gradients shrink at temperature T?",
        "`temperature**2 * gap.sum(dim=1).mean()`",
    ),
    wrongs=(
        Wrong(
            "no_square",
            """
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = theirs.exp() * (theirs - mine)
    return gap.sum(dim=1).mean()
""",
            """The divergence is right, without the square of the temperature. At T = 4 its gradient
            is about sixteen times smaller, and next to the hard part it hardly counts.""",
        ),
        Wrong(
            "over_classes",
            """
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = theirs.exp() * (theirs - mine)
    return temperature**2 * gap.mean()
""",
            """That is a mean over pictures and classes: with a thousand classes, a thousandth of
            the divergence. Take the sum over the classes, then the mean over the pictures.""",
        ),
        Wrong(
            "other_way",
            """
def soft_part(student, teacher, temperature):
    mine = F.log_softmax(student / temperature, dim=1)
    theirs = F.log_softmax(teacher / temperature, dim=1)
    gap = mine.exp() * (mine - theirs)
    return temperature**2 * gap.sum(dim=1).mean()
""",
            """The two have changed places: that is the divergence of the teacher from the student.
            It is 0 at the same place, and pulls otherwise elsewhere.""",
        ),
        Wrong(
            "not_zero",
            """
def soft_part(student, teacher, temperature):
    theirs = F.softmax(teacher / temperature, dim=1)
    return temperature**2 * F.cross_entropy(student / temperature, theirs)
""",
            """That is the cross-entropy: its gradient is the same, but it isn't 0 where both agree.
            Subtract what the teacher's answers have with themselves.""",
        ),
    ),
    judge=_judge_soft,
)
# <<< distillation

# --- 8.3 ------------------------------------------------------------------------------------------

# >>> disentangling
# <<< disentangling

# --- 8.4 ------------------------------------------------------------------------------------------

# >>> crossmodal
# <<< crossmodal

# --- 8.5 ------------------------------------------------------------------------------------------

# >>> fewshot
# <<< fewshot

# --- 8.6 ------------------------------------------------------------------------------------------


# >>> unlabelled
def _judge_contrast(answer: Any) -> Verdict:
    for count, temperature in ((4, 0.5), (3, 0.2)):
        first, second = (F.normalize(torch.randn(count, 6), dim=1) for _ in range(2))
        rows = torch.cat([first, second])
        found = numbers(answer(first, second, temperature), (), "one number")
        place, partner = torch.arange(2 * count), torch.arange(2 * count).roll(count)

        def loss(
            scale: float, left_out: float, to: torch.Tensor, rows: torch.Tensor = rows
        ) -> torch.Tensor:
            likeness = rows @ rows.T / scale + torch.diag(torch.full((len(rows),), left_out))
            return F.cross_entropy(likeness, to)

        if close(found, loss(temperature, -torch.inf, partner), 1e-3):
            continue
        across = F.cross_entropy(first @ second.T / temperature, place[:count])
        for name, wrong in (
            ("itself", loss(temperature, 0.0, partner)),
            ("no_temperature", loss(1.0, -torch.inf, partner)),
            ("multiplied", loss(1 / temperature, -torch.inf, partner)),
            ("across", across),
        ):
            if close(found, wrong, 1e-3):
                return mistake(name)
        return not_yet(f"With {count} pictures and temperature {temperature:g} it is another one.")
    return passed("One matrix of cosines, one cross-entropy: every view is asked for its partner.")


ex8_6 = Exercise(
    "8.6",
    "The contrast as one cross-entropy",
    minutes=10,
    question="""
        `first` and `second` (pictures, features) are two views of the same pictures, rows of
        length 1, in the same order. Every view is asked: which of the *others*, of both views,
        shows my picture? Return the mean cross-entropy of that, likenesses (cosines) divided by
        the temperature. Fill in who is right, and see to it that nobody is asked about itself.
    """,
    answer="contrast_loss",
    stub="""
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T / temperature
    partner = ...
    return F.cross_entropy(likeness, partner)
""",
    solution="""
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T / temperature
    likeness.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows)).roll(len(first))
    return F.cross_entropy(likeness, partner)
""",
    why="""
        With B pictures there are 2B rows; row i has its partner B rows further, and row B + i at i.
        That is `roll` by B. Minus infinity in the diagonal becomes a probability of 0, so that the
        sum runs over the 2B - 1 others, as in the paper.
    """,
    hints=(
        "Row 0 of `first` is row 0 of `rows`. Where in `rows` is its partner?",
        "`torch.arange(len(rows)).roll(len(first))` gives all partners.",
        "`likeness.fill_diagonal_(-torch.inf)` takes a view's likeness to itself out.",
    ),
    wrongs=(
        Wrong(
            "itself",
            """
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T / temperature
    partner = torch.arange(len(rows)).roll(len(first))
    return F.cross_entropy(likeness, partner)
""",
            """The partners are right. But each view is also compared with itself, likeness 1: no
            partner can be better, and the loss can't get near zero.""",
        ),
        Wrong(
            "across",
            """
def contrast_loss(first, second, temperature):
    likeness = first @ second.T / temperature
    return F.cross_entropy(likeness, torch.arange(len(first)))
""",
            """You ask only the first views, and only about the second ones. Others of the same view
            count as others too: 2B - 1 of them for each of 2B views.""",
        ),
        Wrong(
            "no_temperature",
            """
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T
    likeness.fill_diagonal_(-torch.inf)
    return F.cross_entropy(likeness, torch.arange(len(rows)).roll(len(first)))
""",
            """The temperature is missing. Cosines lie between -1 and 1, so that without it even a
            perfect network is never sure.""",
        ),
        Wrong(
            "multiplied",
            """
def contrast_loss(first, second, temperature):
    rows = torch.cat([first, second])
    likeness = rows @ rows.T * temperature
    likeness.fill_diagonal_(-torch.inf)
    return F.cross_entropy(likeness, torch.arange(len(rows)).roll(len(first)))
""",
            """You multiply by the temperature; likenesses are divided by it. A small temperature
            should make the question sharper, not blur it.""",
        ),
    ),
    judge=_judge_contrast,
)
# <<< unlabelled


# >>> question adversarial
# <<< question adversarial

# >>> question distillation
q8_2 = Question(
    "8.2",
    "Why is the soft part of the distillation loss multiplied by the square of the temperature?",
    (
        Option(
            "Its gradients shrink with that square, and soft and hard would lose proportion.",
            """Scores are divided by T, and so are the differences of the answers that come of them.
            With the factor, a share of one half stays about one half at every T.""",
            right=True,
        ),
        Option(
            "The softened answers don't sum to 1, and the factor brings their sum back to 1.",
            "A softmax sums to 1 at every temperature.",
        ),
        Option(
            "The teacher is larger than the student, and the factor makes up for the difference.",
            "Sizes don't enter the loss: only the scores do, one a class from each.",
        ),
        Option(
            "It makes the student surer of its answers than the teacher was at temperature 1.",
            "The factor moves no minimum: that is where both answer alike.",
        ),
    ),
)
# <<< question distillation

# >>> question disentangling
# <<< question disentangling

# >>> question crossmodal
# <<< question crossmodal

# >>> question fewshot
# <<< question fewshot

# >>> question unlabelled
q8_6 = Question(
    "8.6",
    "You pretrain by contrast on unlabelled photographs of birds. One of the views makes pictures "
    "grey. Later, labels come in: two species that differ in colour alone. What is to be feared?",
    (
        Option(
            "Nothing: without labels, a network can't have learned anything that would be wrong.",
            "The views are what it learns from: they say what counts as the same.",
        ),
        Option(
            "The features have learned to overlook colour, which is what the task asks for.",
            """A grey view and a coloured one are to come out alike, so colour had to go. What a
            view changes, the features lose: choose views by the task to come.""",
            right=True,
        ),
        Option(
            "The loss stays high, since grey pictures have a third of the numbers of the others.",
            "The network may well solve it, by shape; that is the trouble.",
        ),
        Option(
            "The head will need three times as many labels, one set for each of the channels.",
            "A head reads features; it knows of no channels.",
        ),
    ),
)
# <<< question unlabelled

EXERCISES = (ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6)
QUESTIONS = (q8_1, q8_2, q8_3, q8_4, q8_5, q8_6)
