"""Order, place and averages, in distribution and out of it: LP-FT, surgical, WiSE-FT, soups.

Common to all: scikit-learn's digits, the small convolutional network of the laboratory, 200 steps
of SGD for every training, four learning rates for every arm, the best by validation on pictures
like the training pictures. "In" is the accuracy on such test pictures, "out" that on test pictures
that look otherwise, which nothing was trained on or chosen by after pretraining. The designs were
made on draws 0 to 2; results are from draws 20 on, or from 40 on where a first run on eight draws
was undecided or its design failed. There the docstring says what it gave.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.profile import seeded_generator
from course_lib.strategies import averages

FIRST_DRAW, SECOND_DRAW = 20, 40
IN, OUT = Measure("in", digits=3), Measure("out", digits=3)
PROBE_RATE, PROBE_STEPS = 0.1, 400


def noisy(images: Tensor, stream: torch.Generator) -> Tensor:
    """Less contrast, and noise of standard deviation 0.25."""
    return 0.6 * images + 0.25 * torch.randn(images.shape, generator=stream)


def inverted(images: Tensor, stream: torch.Generator) -> Tensor:
    """Dark for bright, and a little noise."""
    return 1 - images + 0.1 * torch.randn(images.shape, generator=stream)


def turned(images: Tensor, _: torch.Generator) -> Tensor:
    """A quarter turn."""
    return images.rot90(1, (2, 3))


def half_noisy(images: Tensor, stream: torch.Generator) -> Tensor:
    """Every second picture, by chance, is noisy."""
    chosen = torch.rand(len(images), 1, 1, 1, generator=stream) < 0.5
    return torch.where(chosen, noisy(images, stream), images)


LOOKS = (digits.as_it_is, inverted, noisy, turned)


@experiment(
    "lp_ft", seeds=30, arms=("probe", "all at once", "LP-FT"), measures=(IN, OUT),
    contrasts=(
        Contrast("out", "LP-FT", "all at once", "out", "more",
                 when="the test pictures look otherwise"),
        Contrast("within", "LP-FT", "all at once", "in", "same", margin=0.02,
                 when="the test pictures are like the training pictures"),
        Contrast("probe", "probe", "all at once", "out", "more",
                 when="the probe alone is set against it, on pictures that look otherwise"),
    ),
    minutes=2,
)  # fmt: skip
def probe_first(seed: int) -> Outcome:
    """Does a linear probe before fine-tuning help on pictures that look otherwise?

    Data: a network pretrained on the digits 0 to 4, half of them noisy; 25 clean pictures of 5 to 9
    to train on; test pictures clean (in) and noisy (out). Arms: a new head alone; everything at
    once; the head for 400 steps at rate 0.1 (on stored features these cost next to nothing), then
    everything for 200. Prediction of the claim: LP-FT has more out of distribution than training
    all at once, and in distribution as much, to 0.02; the probe alone has more out of it, too.
    """
    draw = FIRST_DRAW + seed
    task = digits.target_task(draw, 25)
    looks = digits.Part(noisy(task.test.images, seeded_generator(9000 + draw)), task.test.targets)

    def start() -> nn.Sequential:
        return digits.pretrained(draw, half_noisy)

    probe = digits.freeze(start(), digits.BODY)
    digits.fit(probe, task.train, PROBE_RATE, PROBE_STEPS, seed=draw)
    found = {
        "probe": probe,
        "all at once": digits.tuned(start, task, draw).model,
        "LP-FT": digits.tuned(lambda: copy.deepcopy(probe).requires_grad_(True), task, draw).model,
    }
    return {
        arm: {"in": digits.look(model, task.test)[0], "out": digits.look(model, looks)[0]}
        for arm, model in found.items()
    }


@dataclass(frozen=True)
class Shifted:
    """A network that knows all ten digits, and a task of the same digits.

    Attributes:
        start: the network.
        task: pictures to adapt to, 100 of them to train on.
        others: test pictures of every other look that the network was trained with.
    """

    start: nn.Sequential
    task: digits.Task
    others: tuple[digits.Part, ...]


def ten_digits(draw: int, per_class: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Pictures, labels, and the rows to pretrain, train, validate and test on."""
    images, labels = digits._all()
    order = torch.randperm(len(labels), generator=seeded_generator(12000 + draw))
    source, pool, val, test = order[:800], order[800:1100], order[1100:1300], order[1300:]
    train = torch.cat([pool[labels[pool] == each][:per_class] for each in range(10)])
    return images, labels, (source, train, val, test)


def four_looks(draw: int) -> Shifted:
    """Pretrained on four looks of 800 pictures, to be tuned on 100 pictures as they are."""
    images, labels, (source, *parts) = ten_digits(draw, per_class=10)
    stream = seeded_generator(13000 + draw)
    rows = [source[place :: len(LOOKS)] for place in range(len(LOOKS))]
    seen = torch.cat([look(images[each], stream) for look, each in zip(LOOKS, rows, strict=True)])
    start = digits.new_network(3000 + draw, classes=10)
    part = digits.Part(seen, labels[torch.cat(rows)])
    digits.fit(start, part, digits.SOURCE_RATE, digits.SOURCE_STEPS, seed=draw)
    test = parts[-1]
    others = tuple(digits.Part(look(images[test], stream), labels[test]) for look in LOOKS[1:])
    return Shifted(
        start, digits.Task(*(digits.Part(images[each], labels[each]) for each in parts)), others
    )


def in_and_out(model: nn.Module, shifted: Shifted) -> dict[str, float]:
    """Accuracy on test pictures like the training pictures, and the mean over the other looks."""
    out = [digits.look(model, each)[0] for each in shifted.others]
    return {"in": digits.look(model, shifted.task.test)[0], "out": sum(out) / len(out)}


def tuned_at(shifted: Shifted, rate: float, seed: int) -> digits.Score:
    """All layers trained from the start, at one rate."""
    return digits.train_and_score(copy.deepcopy(shifted.start), shifted.task, rate, seed=seed)


@experiment(
    "wise_ft", seeds=60, arms=("start", "fine-tuned", "half way"), measures=(IN, OUT),
    contrasts=(
        Contrast("out", "half way", "fine-tuned", "out", "more", when="the old looks count"),
        Contrast("within", "half way", "fine-tuned", "in", "same", margin=0.01,
                 when="the look that it was tuned on counts"),
        Contrast("forgets", "fine-tuned", "start", "out", "less",
                 when="fine-tuning itself is asked what it forgets"),
    ),
    minutes=2.5,
)  # fmt: skip
def half_way(seed: int) -> Outcome:
    """Does half of the way back keep what fine-tuning forgets?

    Data: a network pretrained on ten digits in four looks (as they are, inverted, noisy, turned);
    tuned on 100 pictures as they are. Arms: the start; all layers tuned; the mean of the two in
    weights. In: test pictures as they are. Out: the mean over the other three looks. Prediction of
    the claim: fine-tuning has less out than the start; half way has more than fine-tuning, and in
    distribution as much, to 0.01. (On draws 20 to 27 all three were undecided; half way had 0.016
    more out, between -0.010 and 0.041. The same design, on 24 new draws.)
    """
    draw = SECOND_DRAW + seed
    shifted = four_looks(draw)
    tuned = digits.best(tuned_at(shifted, rate, draw) for rate in digits.RATES).model
    found = {
        "start": shifted.start,
        "fine-tuned": tuned,
        "half way": averages.interpolate(shifted.start, tuned, 0.5),
    }
    return {arm: in_and_out(model, shifted) for arm, model in found.items()}


SOUP_RATES = (0.003, 0.01, 0.03)
TOO_FAST = 0.1


@experiment(
    "soup", seeds=40,
    arms=("best of three", "soup", "best of four", "soup of four", "greedy soup of four"),
    measures=(IN, OUT),
    contrasts=(
        Contrast("within", "soup", "best of three", "in", "more",
                 when="the look that they were tuned on counts"),
        Contrast("out", "soup", "best of three", "out", "more", when="the old looks count"),
        Contrast("spoiled", "soup of four", "best of four", "in", "more",
                 when="one of four runs was too fast"),
        Contrast("greedy", "greedy soup of four", "best of four", "in", "more",
                 when="one of four runs was too fast and the soup is a greedy one"),
    ),
    minutes=2.5,
)  # fmt: skip
def three_runs(seed: int) -> Outcome:
    """Is the average of three fine-tuned networks better than the best of them?

    Data: as for wise_ft. Three runs from one start, at the rates 0.003, 0.01 and 0.03, each with an
    order of its own; and a fourth at 0.1. Arms: the best of three by validation, and the mean of
    the three; the best of four, the mean of the four, and a greedy soup of them, which takes in
    what doesn't cost validation accuracy. Prediction of the claim: each soup has more in
    distribution than the best single run of the same trainings, the soup of three also out of it.
    (On draws 20 to 27, with the rates 0.01, 0.03 and 0.1, the run at 0.1 often came to nothing and
    the plain soup with it, 0.71 below the best; the greedy one was level. So 0.1 is now the
    exception that it is, on 16 new draws.)
    """
    draw = SECOND_DRAW + seed
    shifted = four_looks(draw)
    runs = [
        tuned_at(shifted, rate, draw + 100 * place)
        for place, rate in enumerate((*SOUP_RATES, TOO_FAST))
    ]
    models = [each.model for each in runs]
    found = {
        "best of three": digits.best(runs[:3]).model,
        "soup": averages.average(models[:3]),
        "best of four": digits.best(runs).model,
        "soup of four": averages.average(models),
        "greedy soup of four": averages.greedy_soup(
            models, lambda model: digits.look(model, shifted.task.val)[0]
        ),
    }
    return {arm: in_and_out(model, shifted) for arm, model in found.items()}


KINDS = ("pictures", "labels")
LAYERS = ("all", *digits.LAYERS)


@experiment(
    "surgical", seeds=45, arms=tuple(f"{kind}: {layer}" for kind in KINDS for layer in LAYERS),
    measures=(Measure("test_accuracy", digits=3),),
    contrasts=(
        Contrast("first", "pictures: conv1", "pictures: all", "test_accuracy", "more",
                 when="the pictures changed and the first layer trains"),
        Contrast("second", "pictures: conv2", "pictures: all", "test_accuracy", "more",
                 when="the pictures changed and the second layer trains"),
        Contrast("last", "labels: fc", "labels: all", "test_accuracy", "more",
                 when="the labels changed and the last layer trains"),
    ),
    minutes=8.5,
)  # fmt: skip
def one_layer(seed: int) -> Outcome:
    """Does it help to train one layer instead of all, and which one?

    Data: a network pretrained on 800 clean pictures of ten digits; then 50 pictures to adapt with,
    inverted (the pictures changed), or with the ten labels in another order (the labels changed).
    Arms: all layers; one of the four layers alone. Prediction of the claim: the first layer alone
    beats all layers on inverted pictures, the last on changed labels; that the second may do it
    where the first is too small was seen on draws 0 to 2, and is tested on new ones here.
    """
    draw = FIRST_DRAW + seed
    images, labels, (source, *parts) = ten_digits(draw, per_class=5)
    stream = seeded_generator(14000 + draw)
    net = digits.new_network(3000 + draw, classes=10)
    part = digits.Part(images[source], labels[source])
    digits.fit(net, part, digits.SOURCE_RATE, digits.SOURCE_STEPS, seed=draw)
    changed = {
        "pictures": (inverted(images, stream), labels),
        "labels": (images, torch.randperm(10, generator=stream)[labels]),
    }
    found = {}
    for kind, (x, y) in changed.items():
        task = digits.Task(*(digits.Part(x[rows], y[rows]) for rows in parts))
        for layer in LAYERS:
            start = only(net, layer)
            score = digits.tuned(start, task, draw)
            found[f"{kind}: {layer}"] = {"test_accuracy": score.test}
    return found


def only(net: nn.Sequential, layer: str) -> Callable[[], nn.Sequential]:
    """Gives copies of a network in which one layer trains, or all of them."""
    others = [each for each in digits.LAYERS if layer not in ("all", each)]
    return lambda: digits.freeze(copy.deepcopy(net), others)
