"""Exercises and questions of chapter 08: strategies of transfer."""

from typing import Any

import torch

from course_lib.exercises.core import Exercise, Wrong
from course_lib.exercises.quiz import Option, Question
from course_lib.exercises.verdicts import (
    Verdict,
    close,
    mistake,
    not_yet,
    numbers,
    passed,
    returned,
)

# --- 8.1 ------------------------------------------------------------------------------------------

# >>> adversarial


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
# <<< adversarial

# --- 8.2 ------------------------------------------------------------------------------------------

# >>> distillation
# <<< distillation

# --- 8.3 ------------------------------------------------------------------------------------------

# >>> disentangling


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
# <<< disentangling

# --- 8.4 ------------------------------------------------------------------------------------------

# >>> crossmodal
# <<< crossmodal

# --- 8.5 ------------------------------------------------------------------------------------------

# >>> fewshot
# <<< fewshot

# --- 8.6 ------------------------------------------------------------------------------------------

# >>> unlabelled
# <<< unlabelled


# >>> question adversarial
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
# <<< question adversarial

# >>> question distillation
# <<< question distillation

# >>> question disentangling
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
# <<< question disentangling

# >>> question crossmodal
# <<< question crossmodal

# >>> question fewshot
# <<< question fewshot

# >>> question unlabelled
# <<< question unlabelled

EXERCISES = (ex8_1, ex8_2, ex8_3, ex8_4, ex8_5, ex8_6)
QUESTIONS = (q8_1, q8_2, q8_3, q8_4, q8_5, q8_6)
