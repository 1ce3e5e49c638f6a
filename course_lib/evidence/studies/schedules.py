"""C6, C10, C16 and C20 on photographs: how fast, in which order, and how the loss adds up.

Common to all but C10: as in :mod:`course_lib.evidence.studies.bodies`, and rates that are chosen
are recorded. Designed on draw 100.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.evidence import pools
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.digits import Part
from course_lib.evidence.studies import bodies
from course_lib.evidence.studies.bodies import ACCURACY, FOOD, RATE, STEPS
from course_lib.profile import seeded_generator

LEARNED = 50
TO_LEVEL = Measure("steps", digits=0)
LEVEL, LOOK_EVERY = 0.7, 4
WAYS = ("one rate", "a tenth in the body", "rate 0 in the body", "head first", "warmed up")
FACTORS = {"a tenth in the body": 0.1, "rate 0 in the body": 0.0}


def drawn(seed: int, n: int) -> tuple[pools.Draw, Part, Part, Part]:
    """A seed's draw: to learn from, to choose by, to be tested on."""
    places = pools.draw(FOOD, seed, n, bodies.CHOSEN_BY, bodies.TESTED)
    learned, val, test = (
        bodies.part_of(FOOD, each) for each in (places.train, places.val, places.test)
    )
    return places, learned, val, test


def warmed_up(step: int) -> float:
    """The factor of the rate at a step: it rises in a straight line over the first quarter."""
    return min(1.0, 4 * step / STEPS)


class Looks:
    """Looks at a network every four steps: is it right on 0.7 of the pictures to choose by?

    Attributes:
        steps: when it first was; four more than all steps while it never was.
    """

    def __init__(self, val: Part, before: int = 0) -> None:
        self.val, self.before, self.steps = val, before, STEPS + LOOK_EVERY

    def __call__(self, step: int, model: nn.Module) -> None:
        """To be called after each step."""
        step += self.before
        if step % LOOK_EVERY == 0 and self.steps > STEPS:
            said = bodies.scores(copy.deepcopy(model), self.val.images).argmax(1)
            if float((said == self.val.targets).double().mean()) >= LEVEL:
                self.steps = step


def one_way(way: str, rate: float, train: Part, val: Part, seed: int) -> tuple[nn.Module, int]:
    """The network of a way at one rate, and its steps to validation accuracy 0.7."""
    model, looks = bodies.network(seed), Looks(val)
    if way == "head first":
        rows, seen = (
            Part(bodies.before_head(model, each.images), each.targets) for each in (train, val)
        )
        head, first = bodies.OnlyHead(bodies.head_of(model)), Looks(seen)
        bodies.fit(head, rows, rate, seed, STEPS // 2, after_step=first)
        looks = Looks(val, before=STEPS // 2)
        bodies.fit(model, train, rate, seed + 500, STEPS // 2, after_step=looks)
        return model, min(first.steps, looks.steps)
    factor = FACTORS.get(way, 1.0)
    for each in bodies.body_of(model):
        each.requires_grad_(factor > 0)  # no gradients for what they wouldn't move
    bodies.fit(
        model, train, rate, seed, body_factor=factor, after_step=looks,
        warmup=warmed_up if way == "warmed up" else None,
    )  # fmt: skip
    return model, looks.steps


@experiment(
    "schedules_photographs", seeds=30, arms=WAYS, measures=(ACCURACY, TO_LEVEL, RATE),
    contrasts={
        "C6_photographs": (
            Contrast("gain", "head first", "one rate", "test_accuracy", "more"),
        ),
        "C16_photographs": (
            Contrast("steps", "rate 0 in the body", "one rate", "steps", "less", ratio=True,
                     when="steps to validation accuracy 0.7 are counted"),
            Contrast("accuracy", "rate 0 in the body", "one rate", "test_accuracy", "more",
                     when="accuracy in the end counts"),
            Contrast("tenth", "a tenth in the body", "one rate", "test_accuracy", "more",
                     when="the body learns a tenth as fast"),
        ),
        "C20_photographs": (
            Contrast("warmup", "warmed up", "one rate", "test_accuracy", "more",
                     when="a rising rate is set against a constant one"),
            Contrast("still", "head first", "warmed up", "test_accuracy", "more",
                     when="the head first is set against a rising rate"),
        ),
    },
    photographs=FOOD, minutes=60,
)  # fmt: skip
def schedules(seed: int) -> Outcome:
    """In which order, and how fast, should body and head learn on 50 photographs?

    Data: hot dogs and other food, half and half; weights of ImageNet and a new head. Arms: one rate
    for all layers; a tenth of it in the body; rate 0 in the body (BatchNorm's statistics move even
    so); the head alone for half of the steps, then all layers, at the same rate; one rate that
    rises from 0 over the first quarter of the steps. Budget: three rates each (0.001, 0.003, 0.01;
    ten times as much where the body learns a tenth or nothing), 48 steps, the best by validation
    loss. Measures: test accuracy; steps until validation accuracy is 0.7 (looked at every 4; 52 if
    it never is). Prediction of the claims: the head first beats all at once (C6); rate 0 takes
    fewer steps and ends better than one rate, and a tenth ends better, too (C16); a rising rate
    beats a constant one, and the head first still beats that (C20).
    """
    places, train, val, test = drawn(seed, LEARNED)
    found = {}
    for way in WAYS:
        rates = [rate * (10 if way in FACTORS else 1) for rate in bodies.USUAL]
        tried = {rate: one_way(way, rate, train, val, seed) for rate in rates}
        chosen = bodies.best({rate: model for rate, (model, _) in tried.items()}, val)
        said = bodies.scores(chosen.model, test.images).argmax(1)
        found[way] = {
            "test_accuracy": pools.answers(said, FOOD, places.test), "rate": chosen.rate,
            "steps": float(tried[chosen.rate][1]),
        }  # fmt: skip
    return found  # type: ignore[return-value]


BOOK_RATE, BOOK_BATCH, BOOK_EPOCHS, BOOK_PICTURES = 5e-5, 128, 5, 512
BOOK_ARMS: dict[str, tuple[str, float, str]] = {
    "sum": ("sum", BOOK_RATE, "sgd"),
    "mean": ("mean", BOOK_RATE, "sgd"),
    "mean, rate x 128": ("mean", BOOK_RATE * BOOK_BATCH, "sgd"),
    "Adam, sum": ("sum", BOOK_RATE, "adam"),
    "Adam, mean": ("mean", BOOK_RATE, "adam"),
}


def by_the_book(reduction: str, rate: float, optimizer: str, part: Part, seed: int) -> nn.Module:
    """The book's training: the head at ten times the rate, weight decay 0.001, batches of 128."""
    model = bodies.network(seed).train()
    head = {id(each) for each in bodies.head_of(model).parameters()}
    groups = [
        {"params": [each for each in model.parameters() if id(each) not in head], "lr": rate},
        {"params": [each for each in model.parameters() if id(each) in head], "lr": rate * 10},
    ]
    kind: Callable[..., torch.optim.Optimizer] = (
        torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    )
    made = kind(groups, lr=rate, weight_decay=0.001)
    stream = seeded_generator(6000 + seed)
    for _ in range(BOOK_EPOCHS):
        for chosen in torch.randperm(len(part), generator=stream).split(BOOK_BATCH):
            made.zero_grad()
            loss = F.cross_entropy(
                model(part.images[chosen]), part.targets[chosen], reduction=reduction
            )
            loss.backward()
            made.step()
    return model


@experiment(
    "C10_photographs", seeds=5, arms=tuple(BOOK_ARMS), measures=(ACCURACY,),
    contrasts=(
        Contrast("sgd", "mean", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD keeps its learning rate"),
        Contrast("rescaled", "mean, rate x 128", "sum", "test_accuracy", "less", margin=0.05,
                 when="SGD's rate is multiplied by the batch size"),
        Contrast("adam", "Adam, mean", "Adam, sum", "test_accuracy", "less", margin=0.05,
                 when="the optimizer is Adam"),
    ),
    photographs=FOOD, minutes=40,
)  # fmt: skip
def mean_or_sum(seed: int) -> Outcome:
    """At the book's numbers, does the mean loss instead of the sum give wildly different results?

    Data: 512 photographs to learn from, so that every batch has 128, at 96 pixels without
    augmentation; 400 to be tested on. Arms: SGD without momentum at the book's rate (5e-5 for the
    body, ten times as much for the head, weight decay 0.001, five epochs, batches of 128) on the
    sum of a batch's losses; on the mean at that rate; on the mean at 128 times the rate; Adam at
    that rate on the sum and on the mean. Nothing is chosen. Measure: test accuracy. Prediction of
    the claim: the mean has at least 0.05 less ("wildly different"), with whatever optimizer.
    """
    places = pools.draw(FOOD, seed, BOOK_PICTURES, 2, bodies.TESTED)
    train, test = (bodies.part_of(FOOD, each) for each in (places.train, places.test))
    found = {}
    for arm, (reduction, rate, optimizer) in BOOK_ARMS.items():
        model = by_the_book(reduction, rate, optimizer, train, seed)
        said = bodies.scores(model, test.images).argmax(1)
        found[arm] = {"test_accuracy": pools.answers(said, FOOD, places.test)}
    return found
