"""Exercises and questions of chapter 08: strategies of transfer."""

from typing import Any

import torch
from torch.nn import functional as F

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
    returned,
)
from course_lib.strategies import fewshot

# --- 8.1 ------------------------------------------------------------------------------------------


def _judge_reversed(answer: Any) -> Verdict:
    for strength in (0.5, 2.0):
        x = torch.randn(4, 3, requires_grad=True)
        weights = torch.randn(4, 3)
        turned = returned(answer(x, strength), torch.Tensor, "a tensor")
        value = numbers(turned, (4, 3), "a tensor")
        if not turned.requires_grad:
            return mistake("no_gradient")
        (turned * weights).sum().backward()
        gradient = numbers(x.grad, (4, 3), "a gradient")
        right = close(value, x.double(), 1e-3)
        if right and close(gradient, -strength * weights.double(), 1e-3):
            continue
        if close(value, -strength * x.double(), 1e-3):
            return mistake("turned_forward")
        if right and close(gradient, strength * weights.double(), 1e-3):
            return mistake("not_turned")
        if not right and close(gradient, -strength * weights.double(), 1e-3):
            return mistake("another_value")
        return not_yet(f"With strength {strength:g}, value or gradient isn't what was asked for.")
    return passed("So `detach` can do what took an autograd function of two methods.")


ex8_1 = Exercise(
    "8.1",
    "A gradient turned round, in one line",
    minutes=7,
    question="""
        Return a tensor that has the *values* of `x`, but through which a gradient passes
        multiplied by `-strength`. Without an autograd function: `x.detach()` has the same
        values and lets no gradient pass. Combine it with `x`.
    """,
    answer="turned_round",
    stub="""
def turned_round(x, strength):
    return ... * x + ... * x.detach()
""",
    solution="""
def turned_round(x, strength):
    return -strength * x + (1 + strength) * x.detach()
""",
    why="""
        The two factors add up to 1, so that the values are those of `x`. A gradient passes
        through the first part alone, and its factor is `-strength`. The same trick, with other
        factors, lets a gradient pass through rounding.
    """,
    hints=(
        "The gradient passes through the first part alone: which factor must that have?",
        "The values of both parts are those of `x`: what must the two factors add up to?",
        "The first is `-strength`, and so the second is `1 + strength`.",
    ),
    wrongs=(
        Wrong(
            "turned_forward",
            """
def turned_round(x, strength):
    return -strength * x
""",
            """The gradient is right, but the values are turned as well: the critic would see other
            features than the head.""",
        ),
        Wrong(
            "no_gradient",
            """
def turned_round(x, strength):
    return (1 + strength) * x.detach() - strength * x.detach()
""",
            """The values are right, and no gradient passes at all: the body would never hear of the
            critic.""",
        ),
        Wrong(
            "not_turned",
            """
def turned_round(x, strength):
    return strength * x + (1 - strength) * x.detach()
""",
            """The values are right, but the gradient isn't turned: the body would help the critic
            to tell the domains.""",
        ),
        Wrong(
            "another_value",
            """
def turned_round(x, strength):
    return -strength * x + x.detach()
""",
            """The gradient is right, the values aren't those of `x`: the two factors have to add up
            to 1.""",
        ),
    ),
    judge=_judge_reversed,
)

# --- 8.2 ------------------------------------------------------------------------------------------


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

# --- 8.3 ------------------------------------------------------------------------------------------


def _judge_swap(answer: Any) -> Verdict:
    into, out = torch.randn(6, 5), torch.randn(5, 6)
    here, there, others = torch.randn(3, 4, 6)

    def encode(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (x @ into)[:, :3], (x @ into)[:, 3:]

    def decode(content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return torch.cat([content, style], dim=1) @ out

    def error(content: torch.Tensor, style: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        return (decode(encode(content)[0], encode(style)[1]) - goal).square().mean().double()

    found = numbers(answer(encode, decode, here, there, others), (), "a number")
    if close(found, error(here, others, there), 1e-3):
        return passed("A picture is made of two others, and never seen by the encoder itself.")
    for name, wrong in (
        ("style_of_there", error(here, there, there)),
        ("as_it_was", error(here, others, here)),
        ("content_of_there", error(there, others, there)),
        ("into_the_others", error(here, others, others)),
    ):
        if close(found, wrong, 1e-3):
            return mistake(name)
    return not_yet("The number is another one. It is the mean over all squared differences.")


ex8_3 = Exercise(
    "8.3",
    "The loss of a swap",
    minutes=8,
    question="""
        `here` are pictures, `there` the same pictures in another look, and `others` other pictures
        in the look of `there`, one by one. `encode` gives content and style, `decode` a picture
        from them. Return the mean squared error of a swap that teaches both codes: neither the
        style may come from the picture that is to be made, nor the content.
    """,
    answer="swap_error",
    stub="""
def swap_error(encode, decode, here, there, others):
    content, style = encode(...)[0], encode(...)[1]
    return F.mse_loss(decode(content, style), ...)
""",
    solution="""
def swap_error(encode, decode, here, there, others):
    content, style = encode(here)[0], encode(others)[1]
    return F.mse_loss(decode(content, style), there)
""",
    why="""
        What comes out must be the picture of `here` in the look of `there`. Its content is known
        from another look, its style from other pictures. So the content code needs what all looks
        share, and the style code what all pictures of a look share.
    """,
    hints=(
        "What comes out has the content of `here`: in which look?",
        "The style comes from pictures in that look which aren't the one to be made.",
        "Content of `here`, style of `others`, and the goal is `there`.",
    ),
    wrongs=(
        Wrong(
            "style_of_there",
            """
def swap_error(encode, decode, here, there, others):
    content, style = encode(here)[0], encode(there)[1]
    return F.mse_loss(decode(content, style), there)
""",
            """The style comes from the very picture that is to be made, so that its code may carry
            the content, too: nothing would stop it.""",
        ),
        Wrong(
            "as_it_was",
            """
def swap_error(encode, decode, here, there, others):
    content, style = encode(here)[0], encode(others)[1]
    return F.mse_loss(decode(content, style), here)
""",
            """You ask for the picture as it was, whatever style is handed over: the decoder would
            learn to ignore the style code.""",
        ),
        Wrong(
            "content_of_there",
            """
def swap_error(encode, decode, here, there, others):
    content, style = encode(there)[0], encode(others)[1]
    return F.mse_loss(decode(content, style), there)
""",
            """The content comes from the very picture that is to be made, so that its code may
            carry the style, too: nothing would stop it.""",
        ),
        Wrong(
            "into_the_others",
            """
def swap_error(encode, decode, here, there, others):
    content, style = encode(here)[0], encode(others)[1]
    return F.mse_loss(decode(content, style), others)
""",
            """The goal is `others`, whose content is another: the style code would have to carry
            everything.""",
        ),
    ),
    judge=_judge_swap,
)

# --- 8.4 ------------------------------------------------------------------------------------------


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

# --- 8.5 ------------------------------------------------------------------------------------------


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

# --- 8.6 ------------------------------------------------------------------------------------------


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


q8_1 = Question(
    "8.1",
    "In the labelled source, half of the pictures are hot dogs; in the unlabelled target, one in "
    "ten. What does it ask of the body to make the two domains' features indistinguishable?",
    (
        Option(
            "Nothing harmful: features of two domains can only agree class by class.",
            "The critic doesn't know of classes. It compares all features of the one with all of "
            "the other.",
        ),
        Option(
            "To find the rare hot dogs, since each batch has as many of both domains.",
            "As many pictures of both domains, yes; but a target batch has its few hot dogs as "
            "before.",
        ),
        Option(
            "To give much of the target's other food the features of hot dogs.",
            """Half of the source's features are those of hot dogs. The target's can only be spread
            likewise if some of its other food goes there: alignment then costs accuracy.""",
            right=True,
        ),
        Option(
            "Nothing at all: features of pictures without labels get no gradient.",
            "Labels are missing for the classes only. The domain of each picture is known.",
        ),
    ),
)

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

q8_3 = Question(
    "8.3",
    "You swap codes between pictures, and what the decoder draws looks perfect: one's content in "
    "the other's style. What do you know about the content code?",
    (
        Option(
            "It holds no style, since the swapped pictures would show what is left.",
            "They show what the decoder uses. It can take the style from the style code and ignore "
            "what the content code says of it.",
        ),
        Option(
            "It has the content; whether the style is in it too, a probe has to say.",
            """Pictures test what the decoder uses, probes what is there. In the ledger's runs with
            swaps alone, the style could still be read from the content code.""",
            right=True,
        ),
        Option(
            "A line can't read the style from it, though another probe perhaps could.",
            "Good swaps say nothing about lines either: the decoder may ignore what a line could "
            "read.",
        ),
        Option(
            "Nothing: a decoder that is good enough draws any picture from any codes.",
            "What isn't in the codes it can't know. A perfect swap does show that the content is "
            "in the content code.",
        ),
    ),
)

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

EXERCISES = (ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6)
QUESTIONS = (q8_1, q8_2, q8_3, q8_4, q8_5, q8_6)
