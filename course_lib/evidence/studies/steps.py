"""C4, C6, C10, C16: how fast and in which order the layers should learn. On digits.

Common to all: a few pictures of the digits 5 to 9, weights pretrained on 0 to 4, 200 steps for
every training, validation on 150 pictures, accuracy on 450 test pictures. The seed draws weights,
order and which pictures are in which part.
"""

import torch
from torch import Tensor, nn

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment

ACCURACY = Measure("test_accuracy", digits=3)
FINE_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def best_rate(scores: dict[float, digits.Score]) -> float:
    """The rate whose score is best by validation."""
    return max(scores, key=lambda rate: scores[rate].rank)


@experiment(
    "C4", seeds=8, arms=("scratch", "fine-tuned", "fine-tuned, a tenth"),
    measures=(Measure("best_rate", digits=1), ACCURACY),
    contrasts=(
        Contrast("factor", "scratch", "fine-tuned", "best_rate", "more", margin=3.16, ratio=True,
                 when="asked for the best rate of each"),
        Contrast("tenth", "fine-tuned, a tenth", "fine-tuned", "test_accuracy", "same", margin=0.02,
                 when="a tenth of the rate for scratch need only be good enough"),
    ),
    minutes=3,
)  # fmt: skip
def a_tenth_of_the_rate(seed: int) -> Outcome:
    """Does fine-tuning want a learning rate about ten times smaller?

    Data: 50 pictures of the digits 5 to 9. Arms: new weights, and pretrained ones, all layers
    trained, each at seven rates from 0.0003 to 0.3 (a factor of about 3.2 apart), the best by
    validation; and the pretrained ones at the rate nearest to a tenth of the best for scratch.
    Measures: the best rate (for the third arm, the rate it got) and test accuracy. Prediction of
    the claim: the best rate for scratch is at least 3.16 times that for fine-tuning (half of the
    way to ten on a logarithmic scale); and a tenth of it is as good, to 0.02, as tuning.
    """
    task = digits.target_task(seed, 50)
    by_start = {
        "scratch": lambda: digits.new_network(7000 + seed),
        "fine-tuned": lambda: digits.pretrained(seed),
    }
    scores = {
        arm: {rate: digits.train_and_score(start(), task, rate, seed=seed) for rate in FINE_RATES}
        for arm, start in by_start.items()
    }
    rates = {arm: best_rate(each) for arm, each in scores.items()}
    tenth = min(FINE_RATES, key=lambda rate: abs(rate - rates["scratch"] / 10))
    found = {
        arm: {"best_rate": rate, "test_accuracy": scores[arm][rate].test}
        for arm, rate in rates.items()
    }
    there = {"best_rate": tenth, "test_accuracy": scores["fine-tuned"][tenth].test}
    return {**found, "fine-tuned, a tenth": there}


def head_first(seed: int, task: digits.Task, rate: float) -> digits.Score:
    """Half of the steps for the head alone, then half for all layers, at the same rate."""
    model = digits.freeze(digits.pretrained(seed), digits.BODY)
    digits.fit(model, task.train, rate, digits.STEPS // 2, seed=seed)
    model.requires_grad_(True)
    return digits.train_and_score(model, task, rate, seed=seed + 500, steps=digits.STEPS // 2)


@torch.no_grad()
def drift(model: nn.Sequential, start: nn.Sequential, part: digits.Part) -> float:
    """How far the features before the head travelled, relative to how much they vary."""

    def features(network: nn.Sequential) -> Tensor:
        return network[:-1](part.images)

    before, after = features(start), features(model)
    return float((after - before).norm() / (before - before.mean(0)).norm())


@experiment(
    "C6", seeds=8, arms=("all at once", "head first"), measures=(ACCURACY, Measure("drift")),
    contrasts=(
        Contrast("gain", "head first", "all at once", "test_accuracy", "more",
                 when="accuracy counts"),
        Contrast("drift", "head first", "all at once", "drift", "less",
                 when="the distance that the features travel counts"),
    ),
    minutes=2,
)  # fmt: skip
def head_before_body(seed: int) -> Outcome:
    """Is it better to train the head first, then everything?

    Data: 25 pictures of the digits 5 to 9. Arms: all layers for 200 steps; the head alone for 100
    steps, then all layers for 100. Budget: four learning rates each, the best by validation.
    Measures: test accuracy; and how far the features before the head travelled on the test
    pictures, relative to their spread. Prediction of the claim: head first has more accuracy, and
    its features travel less.
    """
    task = digits.target_task(seed, 25)
    found = {
        "all at once": digits.tuned(lambda: digits.pretrained(seed), task, seed),
        "head first": digits.best(head_first(seed, task, rate) for rate in digits.RATES),
    }
    start = digits.pretrained(seed)
    return {
        arm: {"test_accuracy": each.test, "drift": drift(each.model, start, task.test)}
        for arm, each in found.items()
    }


SUM_RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003)
ADAM_RATE = 0.001


@experiment(
    "C10", seeds=8, arms=("sum", "mean", "mean, rate x 16", "Adam, sum", "Adam, mean"),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("sgd", "mean", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD keeps its learning rate"),
        Contrast("rescaled", "mean, rate x 16", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD's rate is multiplied by the batch size"),
        Contrast("adam", "Adam, mean", "Adam, sum", "test_accuracy", "less", margin=0.05,
                 when="the optimizer is Adam"),
    ),
    minutes=2,
)  # fmt: skip
def mean_or_sum(seed: int) -> Outcome:
    """Does the mean loss instead of the sum give wildly different results?

    Data: 80 pictures of the digits 5 to 9, so that every batch has 16. Arms: SGD on the sum of a
    batch's losses, at the best by validation of five rates from 0.00003 to 0.003; on the mean at
    that same rate, as the thread's reader did; on the mean at that rate times 16, the batch size;
    and Adam at 0.001 on the sum and on the mean. All layers of pretrained weights, 200 steps.
    Measure: test accuracy. Prediction of the claim: the mean has at least 0.05 less ("wildly
    different"), with whatever optimizer.
    """
    task = digits.target_task(seed, 80)

    def trained(rate: float, reduction: str, optimizer: str = "sgd") -> digits.Score:
        return digits.train_and_score(
            digits.pretrained(seed), task, rate, seed=seed, reduction=reduction, optimizer=optimizer
        )

    scores = {rate: trained(rate, "sum") for rate in SUM_RATES}
    rate = best_rate(scores)
    found = {
        "sum": scores[rate],
        "mean": trained(rate, "mean"),
        "mean, rate x 16": trained(rate * digits.BATCH, "mean"),
        "Adam, sum": trained(ADAM_RATE, "sum", "adam"),
        "Adam, mean": trained(ADAM_RATE, "mean", "adam"),
    }
    return {arm: {"test_accuracy": each.test} for arm, each in found.items()}


@experiment(
    "C16", seeds=8, arms=("rate 0 in the body", "a tenth in the body", "one rate"),
    measures=(Measure("steps", digits=1), ACCURACY),
    contrasts=(
        Contrast("steps", "rate 0 in the body", "one rate", "steps", "less", ratio=True,
                 when="steps to validation accuracy 0.8 are counted"),
        Contrast("accuracy", "rate 0 in the body", "one rate", "test_accuracy", "more",
                 when="accuracy in the end counts"),
    ),
    minutes=3,
)  # fmt: skip
def rate_zero(seed: int) -> Outcome:
    """Does learning rate 0 in all other layers make the last one converge fast?

    Data: 50 pictures of the digits 5 to 9, pretrained weights, a new head. Arms: rate 0 in the
    body; a tenth of the head's rate; the head's rate. Budget: four rates of the head, 200 steps
    each, the best by validation. Measures: steps until validation accuracy reaches 0.8 (looked at
    every 10 steps; 210 if it never does), and test accuracy in the end. Prediction of the claim:
    with rate 0 it takes fewer steps than with one rate for all, and ends with more accuracy.
    """
    task = digits.target_task(seed, 50)
    factors = {"rate 0 in the body": 0.0, "a tenth in the body": 0.1, "one rate": 1.0}
    found = {
        arm: digits.tuned(
            lambda: digits.pretrained(seed), task, seed, body_factor=factor, watch=True
        )
        for arm, factor in factors.items()
    }
    return {
        arm: {"steps": digits.steps_until(each, 0.8), "test_accuracy": each.test}
        for arm, each in found.items()
    }
