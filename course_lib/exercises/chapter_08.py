"""Exercises and questions of chapter 08: strategies of transfer."""

from typing import Any

import torch

from course_lib.exercises.core import PREAMBLE, Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    number,
    numbers,
    passed,
)
from course_lib.strategies import fewshot

# --- 8.1 ------------------------------------------------------------------------------------------

# >>> adversarial
# <<< adversarial

# --- 8.2 ------------------------------------------------------------------------------------------

# >>> distillation
# <<< distillation

# --- 8.3 ------------------------------------------------------------------------------------------

# >>> disentangling
# <<< disentangling

# --- 8.4 ------------------------------------------------------------------------------------------

# >>> crossmodal


def _judge_recall(answer: Any) -> Verdict:
    for k in (1, 2, 3):
        alike, fits = torch.randn(12, 7), torch.rand(12, 7) < 0.3
        fits[torch.arange(12), torch.arange(12) % 7] = True
        found = number(answer(alike.clone(), fits.clone(), k), "a share")
        hits = fits.gather(1, alike.topk(k).indices).double()
        least = fits.gather(1, alike.topk(k, largest=False).indices).double()
        square = torch.arange(7)
        own = (alike[:7].topk(k).indices == square[:, None]).any(1).double()
        if close(found, hits.amax(1).mean()):
            continue
        for name, wrong in (
            ("share_of_k", hits.mean()),
            ("count", hits.amax(1).sum()),
            ("least_alike", least.amax(1).mean()),
            ("diagonal", own.sum() / 12),
        ):
            if close(found, wrong):
                return mistake(name)
        return not_yet(f"With k = {k} it gives {found:.3f}; expected {hits.amax(1).mean():.3f}.")
    return passed("Twelve questions, seven answers, several of them right: none of them is lost.")


ex8_4 = Exercise(
    "8.4",
    "Recall where several fit",
    minutes=8,
    question="""
        `alike` (N, M) says how alike N sentences and M pictures are, `fits` (N, M) is True where
        they belong together; more than one picture may fit. Return the share of sentences for which
        at least one of the `k` most similar pictures fits.
    """,
    answer="recall_at",
    stub="""
def recall_at(alike, fits, k):
    first = alike.topk(k, dim=1).indices
    return ...
""",
    solution="""
def recall_at(alike, fits, k):
    first = alike.topk(k, dim=1).indices
    return fits.gather(1, first).any(dim=1).double().mean()
""",
    why="""
        `gather` looks up, in each row, whether the chosen columns fit. One hit is enough. If only
        the picture that the sentence was made from counted, a search that finds an equal one would
        be called wrong.
    """,
    hints=(
        "`first` has the numbers of k columns for each row. Do these fit?",
        "`fits.gather(1, first)` has the shape (N, k).",
        "One of the k is enough: `.any(dim=1)`. Then the mean.",
    ),
    wrongs=(
        Wrong(
            "share_of_k",
            """
def recall_at(alike, fits, k):
    first = alike.topk(k, dim=1).indices
    return fits.gather(1, first).double().mean()
""",
            """That is which share of the k pictures fits (precision at k). A sentence with one
            picture could then never get more than 1/k.""",
        ),
        Wrong(
            "count",
            """
def recall_at(alike, fits, k):
    first = alike.topk(k, dim=1).indices
    return fits.gather(1, first).any(dim=1).sum()
""",
            """That is how many sentences have a hit. Divide by their number: a share was asked
            for.""",
        ),
        Wrong(
            "least_alike",
            """
def recall_at(alike, fits, k):
    first = alike.argsort(dim=1)[:, :k]
    return fits.gather(1, first).any(dim=1).double().mean()
""",
            """`argsort` goes from small to large, so you look at the pictures that are *least*
            alike. Add `descending=True`.""",
        ),
        Wrong(
            "diagonal",
            """
def recall_at(alike, fits, k):
    first = alike.topk(k, dim=1).indices
    own = torch.arange(len(alike))[:, None]
    return (first == own).any(dim=1).double().mean()
""",
            """You count a hit only where picture i is found for sentence i. Others fit too, and
            here there aren't even as many pictures as sentences: ask `fits`.""",
        ),
    ),
    judge=_judge_recall,
)
# <<< crossmodal

# --- 8.5 ------------------------------------------------------------------------------------------

# >>> fewshot


def _judge_left_out(answer: Any) -> Verdict:
    for classes in (2, 3):
        targets = torch.arange(5 * classes) % classes
        features = torch.randn(classes, 4)[targets] + 1.5 * torch.randn(len(targets), 4)
        found = number(answer(features.clone(), targets.clone()), "a share")
        right = dict.fromkeys(("right", "itself_in", "farthest", "neighbour"), 0)
        whole = fewshot.prototypes(features, targets)
        for i, target in enumerate(targets.tolist()):
            rest, one = torch.arange(len(targets)) != i, features[i : i + 1]
            means = fewshot.prototypes(features[rest], targets[rest])
            near = fewshot.nearest_pictures(one, features[rest], targets[rest], 1)
            right["right"] += int(fewshot.nearest(one, means)) == target
            right["itself_in"] += int(fewshot.nearest(one, whole)) == target
            right["farthest"] += int(torch.cdist(one, means).argmax()) == target
            right["neighbour"] += int(near) == target
        if close(found, right.pop("right") / len(targets)):
            continue
        for name, count in right.items():
            if close(found, count / len(targets)):
                return mistake(name)
        return not_yet(f"With {classes} classes it gives {found:.3f}, which is another share.")
    return passed("An estimate from ten pictures, and none of them judged itself.")


ex8_5 = Exercise(
    "8.5",
    "Ten pictures, and an honest score",
    minutes=8,
    question="""
        You have a few labelled pictures and none to test on. Name each of them by prototypes made
        from *all the others*, and return the share that is right. `features` is (N, D), `targets`
        (N,); each class has two pictures or more. `fewshot.prototypes(features, targets)` and
        `fewshot.nearest(features, means)` do the rest.
    """,
    answer="left_out",
    stub="""
def left_out(features, targets):
    right = 0
    for i in range(len(targets)):
        rest = ...
        means = fewshot.prototypes(features[rest], targets[rest])
        right += int(fewshot.nearest(features[i : i + 1], means)[0] == targets[i])
    return right / len(targets)
""",
    solution="""
def left_out(features, targets):
    right = 0
    for i in range(len(targets)):
        rest = torch.arange(len(targets)) != i
        means = fewshot.prototypes(features[rest], targets[rest])
        right += int(fewshot.nearest(features[i : i + 1], means)[0] == targets[i])
    return right / len(targets)
""",
    why="""
        A picture pulls the mean of its class towards itself: with one picture a class every picture
        would be its own prototype, and the score 1. Leaving it out costs nothing, since prototypes
        take no training. The estimate is still one of few pictures, and wide.
    """,
    hints=(
        "`rest` picks the rows of all pictures but number i.",
        "A mask of True and False picks rows, too.",
        "`torch.arange(len(targets)) != i`",
    ),
    wrongs=(
        Wrong(
            "itself_in",
            """
def left_out(features, targets):
    means = fewshot.prototypes(features, targets)
    return (fewshot.nearest(features, means) == targets).double().mean()
""",
            """Each picture is in the mean that names it, and pulls it towards itself. Leave
            picture i out when you name picture i.""",
        ),
        Wrong(
            "neighbour",
            """
def left_out(features, targets):
    right = 0
    for i in range(len(targets)):
        rest = torch.arange(len(targets)) != i
        near = fewshot.nearest(features[i : i + 1], features[rest])[0]
        right += int(targets[rest][near] == targets[i])
    return right / len(targets)
""",
            """That is the nearest picture, not the nearest mean: `nearest` wants the prototypes of
            the others.""",
        ),
        Wrong(
            "farthest",
            """
def left_out(features, targets):
    right = 0
    for i in range(len(targets)):
        rest = torch.arange(len(targets)) != i
        means = fewshot.prototypes(features[rest], targets[rest])
        right += int(torch.cdist(features[i : i + 1], means).argmax() == targets[i])
    return right / len(targets)
""",
            """A distance is small where things are alike: take `argmin`, not `argmax`.""",
        ),
    ),
    judge=_judge_left_out,
    preamble=PREAMBLE + "\nfrom course_lib.strategies import fewshot\n",
)
# <<< fewshot

# --- 8.6 ------------------------------------------------------------------------------------------

# >>> unlabelled
# <<< unlabelled


# >>> question adversarial
# <<< question adversarial

# >>> question distillation
# <<< question distillation

# >>> question disentangling
# <<< question disentangling

# >>> question crossmodal
q8_4 = Question(
    "8.4",
    'Half of the training sentences say "hot dog", a few say "sushi". A picture that is most '
    'probably a hot dog gets "sushi" as its nearest prompt. What is the likely reason?',
    (
        Option(
            "The two towers have vectors of different lengths, so that one word wins.",
            "Both ends are brought to length 1 before they are compared; length has no say.",
        ),
        Option(
            "The picture tower was frozen, so it can't know what a hot dog looks like.",
            "A linear head on the same frozen features tells hot dogs from others well.",
        ),
        Option(
            "The loss scores how much likelier a sentence is than usual, not how likely.",
            """A word that fits every second picture excludes little, so that even a sure hot dog
            scores low. Telling the shares of the foods takes this into account.""",
            right=True,
        ),
        Option(
            "The temperature is too low; with another one the order of prompts would turn.",
            "One factor for all cosines of a picture leaves their order as it is.",
        ),
    ),
)
# <<< question crossmodal

# >>> question fewshot
q8_5 = Question(
    "8.5",
    "You have one labelled picture of each class, and prototypes and the nearest picture use the "
    "same distance on the same features. How do their answers differ?",
    (
        Option(
            "They don't: the mean of one picture is that picture.",
            """With one shot both are the same rule. From two on, a mean evens out what is odd in
            single pictures.""",
            right=True,
        ),
        Option(
            "Prototypes are better, as a mean has less noise.",
            "A mean of one has as much noise as the one. It pays from two pictures on.",
        ),
        Option(
            "The nearest picture is better, as it keeps all details.",
            "With one picture a class there is nothing that the mean could lose.",
        ),
        Option(
            "It depends on the penalty, which has to be tuned first.",
            "Neither of the two has a penalty: nothing is trained. A linear head has one.",
        ),
    ),
)
# <<< question fewshot

# >>> question unlabelled
# <<< question unlabelled

EXERCISES = (ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6)
QUESTIONS = (q8_1, q8_2, q8_3, q8_4, q8_5, q8_6)
