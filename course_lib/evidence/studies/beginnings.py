"""C1, C2, C13, C18, C21: where to start from. Pretrained weights against new ones, on digits.

Common to all: the target task (digits 5 to 9), 200 steps of SGD with momentum for every training,
the same four learning rates tried for every arm and the best taken by 150 validation pictures and
recorded, accuracy on 450 test pictures. The seed draws weights, order and which pictures are in
which part.
"""

from collections.abc import Callable, Mapping

from torch import nn

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment

ACCURACY, RATE = Measure("test_accuracy", digits=3), Measure("rate", digits=4)


def scratch(seed: int) -> Callable[[], nn.Sequential]:
    """New weights."""
    return lambda: digits.new_network(7000 + seed)


@experiment(
    "C1", seeds=16, arms=("scratch", "fine-tuned"),
    measures=(ACCURACY, RATE, Measure("steps", digits=1)),
    contrasts=(
        Contrast("gain", "fine-tuned", "scratch", "test_accuracy", "more", when="accuracy counts"),
        Contrast("compute", "fine-tuned", "scratch", "steps", "less", ratio=True,
                 when="compute counts"),
    ),
    minutes=1.5,
)  # fmt: skip
def fine_tuning_pays(seed: int) -> Outcome:
    """Does fine-tuning raise accuracy and save compute?

    Data: 50 pictures of the digits 5 to 9. Arms: new weights, and weights pretrained on the digits
    0 to 4 with a new head; all layers trained in both. Budget: four learning rates, 200 steps
    each; for accuracy the best by validation, for steps the fastest of the four. Measures: test
    accuracy; and steps until validation accuracy reaches 0.8 (looked at every 10 steps; 210 if it
    never does), pretraining not counted, as somebody else has paid for it. Prediction of the claim:
    more accuracy, and fewer steps.
    """
    task = digits.target_task(seed, 50)
    starts = {"scratch": scratch(seed), "fine-tuned": lambda: digits.pretrained(seed)}
    found = {arm: digits.over_rates(start, task, seed, watch=True) for arm, start in starts.items()}
    return {arm: {**digits.told(each), "steps": fastest(each)} for arm, each in found.items()}


def fastest(scores: Mapping[float, digits.Score], level: float = 0.8) -> float:
    """The fewest steps to a validation accuracy at any of the rates."""
    return min(digits.steps_until(each, level) for each in scores.values())


@experiment(
    "C2", seeds=24, arms=("scratch", "related", "shuffled pixels", "drawn labels"),
    measures=(ACCURACY, RATE),
    contrasts=(
        Contrast("shuffled", "shuffled pixels", "scratch", "test_accuracy", "less",
                 when="the source's pictures have their pixels shuffled"),
        Contrast("labels", "drawn labels", "scratch", "test_accuracy", "less",
                 when="the source's labels were drawn at random"),
        Contrast("against_related", "shuffled pixels", "related", "test_accuracy", "less",
                 when="compared with a related source"),
    ),
    minutes=4.5,
)  # fmt: skip
def negative_transfer(seed: int) -> Outcome:
    """Does a source that differs a lot from the target give bad results?

    Data: 100 pictures of the digits 5 to 9. Arms: new weights; weights pretrained on the digits 0
    to 4; on the same pictures with their pixels in another order (nothing local is left); on the
    same pictures with labels drawn at random (there is nothing to learn but the pictures
    themselves). All layers are trained. Budget: four learning rates, 200 steps each, the best by
    validation. Measure: test accuracy. Prediction of the claim: the two odd sources are worse than
    new weights (negative transfer), and worse than the related source.
    """
    task = digits.target_task(seed, 100)
    starts = {
        "scratch": scratch(seed),
        "related": lambda: digits.pretrained(seed),
        "shuffled pixels": lambda: digits.pretrained(seed, digits.shuffled_pixels),
        "drawn labels": lambda: digits.pretrained(seed, drawn_labels=True),
    }
    return {arm: digits.told(digits.over_rates(start, task, seed)) for arm, start in starts.items()}


@experiment(
    "C13", seeds=16,
    arms=tuple(f"{way} {n}" for n in (25, 100, 200) for way in ("scratch", "fine-tuned")),
    measures=(ACCURACY, RATE),
    contrasts=(
        Contrast("enough", "scratch 200", "fine-tuned 200", "test_accuracy", "more",
                 when="there are enough data (200 pictures): scratch is better"),
        Contrast("fewer", "fine-tuned 25", "scratch 100", "test_accuracy", "more",
                 when="a quarter of the pictures is meant to do the same"),
    ),
    minutes=2,
)  # fmt: skip
def learning_curve(seed: int) -> Outcome:
    """With enough data, is training from scratch better? And does transfer need fewer examples?

    Data: 25, 100 and 200 pictures of the digits 5 to 9, the smaller sets part of the larger. Arms
    at each: new weights, and weights pretrained on the digits 0 to 4; all layers trained. Budget:
    four learning rates, 200 steps each, the best by validation. Measure: test accuracy. Prediction
    of the claim: at 200 scratch is better; fine-tuned with 25 is better than scratch with 100.
    """
    found: dict[str, dict[str, float]] = {}
    for n in (25, 100, 200):
        task = digits.target_task(seed, n)
        starts = {"scratch": scratch(seed), "fine-tuned": lambda: digits.pretrained(seed)}
        for way, start in starts.items():
            found[f"{way} {n}"] = digits.told(digits.over_rates(start, task, seed))
    return found


@experiment(
    "C21", seeds=80, arms=("scratch 10", "fine-tuned 10", "head only 10", "scratch 200"),
    measures=(ACCURACY, Measure("train_accuracy", digits=3), Measure("gap", digits=3), RATE),
    contrasts={
        "C21": (
            Contrast("fewer", "scratch 10", "scratch 200", "gap", "more",
                     when="10 pictures are set against 200"),
            Contrast("transfer", "fine-tuned 10", "scratch 10", "gap", "less",
                     when="all layers of a pretrained network are trained"),
            Contrast("head", "head only 10", "scratch 10", "gap", "less",
                     when="only the head of a pretrained network is trained"),
        ),
        "C18": (Contrast("gain", "fine-tuned 10", "scratch 10", "test_accuracy", "more"),),
    },
    minutes=5,
)  # fmt: skip
def few_examples(seed: int) -> Outcome:
    """With a few examples only, is a network worse, and how much better on what it learned from?

    Data: 10 pictures, two of each of the digits 5 to 9; or 200. Arms: new weights at both; at 10,
    weights pretrained on the digits 0 to 4 as well, with all layers trained and with only the head
    trained. Budget: four learning rates, 200 steps each, the best by validation. Measures: test
    accuracy; accuracy on the pictures learned from, after training; and that minus the first, the
    gap. Prediction of the claims: at 10 the fine-tuned one has more test accuracy than the one from
    new weights (C18); from new weights the gap is larger at 10 than at 200, and at 10 it is smaller
    with pretrained weights, with all layers trained and with the head only (C21).
    """
    starts = {
        "scratch": scratch(seed),
        "fine-tuned": lambda: digits.pretrained(seed),
        "head only": lambda: digits.freeze(digits.pretrained(seed), digits.BODY),
    }
    found: dict[str, dict[str, float]] = {}
    for n, ways in ((10, tuple(starts)), (200, ("scratch",))):
        task = digits.target_task(seed, n)
        for way in ways:
            scores = digits.over_rates(starts[way], task, seed)
            best = digits.told(scores)
            learned = digits.look(scores[best["rate"]].model, task.train)[0]
            gap = learned - best["test_accuracy"]
            found[f"{way} {n}"] = {**best, "train_accuracy": learned, "gap": gap}
    return found
