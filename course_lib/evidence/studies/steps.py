"""C4, C6, C10, C16, C20: how fast and in which order the layers should learn. On digits.

Common to all: a few pictures of the digits 5 to 9, weights pretrained on 0 to 4, 200 steps for
every training, validation on 150 pictures, accuracy on 450 test pictures. The seed draws weights,
order and which pictures are in which part.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.rates import parabola
from course_lib.evidence.studies.beginnings import fastest

ACCURACY, RATE = Measure("test_accuracy", digits=3), Measure("rate", digits=5)
FINE_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)


def best_rate(scores: dict[float, digits.Score]) -> float:
    """The rate whose score is best by validation."""
    return max(scores, key=lambda rate: scores[rate].rank)


C4_ARMS = ("scratch", "fine-tuned", "fine-tuned, a tenth")
C4_MEASURES = (Measure("best_rate", digits=4), Measure("lowest", digits=4), ACCURACY)
C4_CONTRASTS = (
    Contrast("factor", "scratch", "fine-tuned", "best_rate", "more", margin=3.16, ratio=True,
             when="asked for the best rate of each"),
    # Added when the first was known: a parabola gives weight to rates that are far too high.
    Contrast("lowest", "scratch", "fine-tuned", "lowest", "more", margin=3.16, ratio=True,
             when="the best is the one of the seven with the smallest loss"),
    Contrast("tenth", "fine-tuned, a tenth", "fine-tuned", "test_accuracy", "not less",
             margin=0.02, when="a tenth of the rate for scratch need only be good enough"),
)  # fmt: skip


@experiment("C4", seeds=16, arms=C4_ARMS, measures=C4_MEASURES, contrasts=C4_CONTRASTS, minutes=1)
def a_tenth_of_the_rate(seed: int) -> Outcome:
    """Does fine-tuning want a learning rate about ten times smaller?

    Data: 50 pictures of the digits 5 to 9. Arms: new weights, and pretrained ones, all layers
    trained, each at seven rates from 0.0003 to 0.3 (a factor of about 3.2 apart); and the
    pretrained ones at the rate nearest to a tenth of the best for scratch. Measures: the best
    rate, the lowest point of a parabola through the seven validation losses (for the third arm,
    the rate it got); the one of the seven with the smallest loss; and test accuracy at the one
    nearest to the parabola's lowest point. Prediction of the claim: the best rate for scratch
    is at least 3.16 times that for fine-tuning (half of the way to ten on a logarithmic scale);
    and a tenth of it has at most 0.02 less than tuning.
    """
    starts: dict[str, Start] = {
        "scratch": lambda: digits.new_network(7000 + seed),
        "fine-tuned": lambda: digits.pretrained(seed),
    }
    return by_rate(starts, digits.target_task(seed, 50), seed)


Start = Callable[[], nn.Sequential]


def by_rate(
    starts: Mapping[str, Start], task: digits.Task, seed: int, steps: int = digits.STEPS
) -> Outcome:
    """The arms of C4, from the two starts."""
    scores = {arm: digits.over_rates(start, task, seed, FINE_RATES, steps=steps)
              for arm, start in starts.items()}  # fmt: skip
    best = {
        arm: parabola({rate: each.val_loss for rate, each in tried.items()})
        for arm, tried in scores.items()
    }
    lowest = {
        arm: min(tried, key=lambda rate: tried[rate].val_loss) for arm, tried in scores.items()
    }
    found = {
        arm: {
            "best_rate": rate, "lowest": lowest[arm],
            "test_accuracy": scores[arm][nearest(rate)].test,
        }
        for arm, rate in best.items()
    }  # fmt: skip
    tenth = nearest(best["scratch"] / 10)
    there = {"best_rate": tenth, "lowest": tenth, "test_accuracy": scores["fine-tuned"][tenth].test}
    return {**found, "fine-tuned, a tenth": there}


def nearest(rate: float) -> float:
    """The one of the seven rates that is nearest by its quotient."""
    return min(FINE_RATES, key=lambda each: max(each / rate, rate / each))


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
    "C6", seeds=16, arms=("all at once", "head first"),
    measures=(ACCURACY, RATE, Measure("drift")),
    contrasts=(
        Contrast("gain", "head first", "all at once", "test_accuracy", "more",
                 when="accuracy counts"),
        # A tenth of the features' spread is what another tenth of the rate changes.
        Contrast("drift", "head first", "all at once", "drift", "less", matters=0.1,
                 when="the distance that the features travel counts"),
    ),
    minutes=1,
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
        "all at once": digits.over_rates(lambda: digits.pretrained(seed), task, seed),
        "head first": {rate: head_first(seed, task, rate) for rate in digits.RATES},
    }
    start = digits.pretrained(seed)
    return {
        arm: {**digits.told(each), "drift": drift(best_model(each), start, task.test)}
        for arm, each in found.items()
    }


def best_model(scores: Mapping[float, digits.Score]) -> nn.Sequential:
    """The network that is best by validation."""
    return digits.best(scores.values()).model


WARM = digits.STEPS // 4


def warmed_up(seed: int, task: digits.Task, rate: float) -> digits.Score:
    """All layers at once, at a rate that rises in five stairs for a quarter of the steps."""
    model = digits.pretrained(seed)
    for stair in range(5):
        digits.fit(
            model, task.train, rate * (stair + 0.5) / 5, WARM // 5, seed=seed + 100 * (stair + 1)
        )
    return digits.train_and_score(model, task, rate, seed=seed, steps=digits.STEPS - WARM)


@experiment(
    "C20", seeds=16, arms=("constant", "rising", "head first"), measures=(ACCURACY, RATE),
    contrasts=(
        Contrast("warmup", "rising", "constant", "test_accuracy", "more",
                 when="a rising rate is set against a constant one"),
        Contrast("still", "head first", "rising", "test_accuracy", "more",
                 when="the head first is set against a rising rate"),
    ),
    minutes=1,
)  # fmt: skip
def warmup_or_head_first(seed: int) -> Outcome:
    """Does a random head still hurt when the learning rate starts small and rises?

    Data: 25 pictures of the digits 5 to 9; pretrained weights, a random head. Arms, all with 200
    steps: all layers at a constant rate; at one that rises in five stairs over the first 50 steps;
    the head alone for 100 steps, then all layers for 100. Budget: four learning rates each, the
    best by validation. Measure: test accuracy. Prediction of the claim: the rising rate beats the
    constant one, and the head first still beats the rising rate.
    """
    task = digits.target_task(seed, 25)
    return {
        "constant": digits.told(
            digits.over_rates(lambda: digits.pretrained(seed), task, seed)
        ),
        "rising": digits.told({rate: warmed_up(seed, task, rate) for rate in digits.RATES}),
        "head first": digits.told({rate: head_first(seed, task, rate) for rate in digits.RATES}),
    }  # fmt: skip


SUM_RATES = (0.00003, 0.0001, 0.0003, 0.001, 0.003)
ADAM_RATE = 0.001


@experiment(
    "C10", seeds=8, arms=("sum", "mean", "mean, rate x 16", "Adam, sum", "Adam, mean"),
    measures=(ACCURACY, RATE),
    contrasts=(
        Contrast("sgd", "mean", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD keeps its learning rate"),
        Contrast("rescaled", "mean, rate x 16", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD's rate is multiplied by the batch size"),
        Contrast("adam", "Adam, mean", "Adam, sum", "test_accuracy", "less", margin=0.05,
                 when="the optimizer is Adam"),
    ),
    minutes=0.5,
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
        "sum": {rate: scores[rate]},
        "mean": {rate: trained(rate, "mean")},
        "mean, rate x 16": {rate * digits.BATCH: trained(rate * digits.BATCH, "mean")},
        "Adam, sum": {ADAM_RATE: trained(ADAM_RATE, "sum", "adam")},
        "Adam, mean": {ADAM_RATE: trained(ADAM_RATE, "mean", "adam")},
    }
    return {arm: digits.told(each) for arm, each in found.items()}


@experiment(
    "C16", seeds=16, arms=("rate 0 in the body", "a tenth in the body", "one rate"),
    measures=(Measure("steps", digits=1), ACCURACY, RATE),
    contrasts=(
        Contrast("steps", "rate 0 in the body", "one rate", "steps", "less", ratio=True,
                 when="steps to validation accuracy 0.8 are counted"),
        Contrast("accuracy", "rate 0 in the body", "one rate", "test_accuracy", "more",
                 when="accuracy in the end counts"),
    ),
    minutes=1,
)  # fmt: skip
def rate_zero(seed: int) -> Outcome:
    """Does learning rate 0 in all other layers make the last one converge fast?

    Data: 50 pictures of the digits 5 to 9, pretrained weights, a new head. Arms: rate 0 in the
    body; a tenth of the head's rate; the head's rate. Budget: four rates of the head, 200 steps
    each; for accuracy the best by validation, for steps the fastest of the four. Measures: steps
    until validation accuracy reaches 0.8 (looked at every 10 steps; 210 if it never does), and test
    accuracy in the end. Prediction of the claim:
    with rate 0 it takes fewer steps than with one rate for all, and ends with more accuracy.
    """
    task = digits.target_task(seed, 50)
    factors = {"rate 0 in the body": 0.0, "a tenth in the body": 0.1, "one rate": 1.0}
    found = {
        arm: digits.over_rates(
            lambda: digits.pretrained(seed), task, seed, body_factor=factor, watch=True
        )
        for arm, factor in factors.items()
    }
    return {arm: {**digits.told(each), "steps": fastest(each)} for arm, each in found.items()}
