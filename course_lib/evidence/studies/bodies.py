"""C1, C3, C5, C8, C18 and C21 on photographs: which layers of a real network to train.

C8 and the comparison of chapter 02 on drawn pictures as well.

Common to all: EfficientNet-Lite0, photographs of food at 96 pixels without augmentation, held in
memory. Each seed draws anew what is learned from, 100 pictures to choose by and 400 to be tested
on, from 992. Every training has 48 steps of SGD with momentum in batches of 16; each arm tries
three rates, the best by validation loss, and its rate is recorded. Designed on draw 100.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import backbones
from course_lib.evidence import pools
from course_lib.evidence.design import Answers, Contrast, Measure, Outcome, experiment
from course_lib.evidence.digits import Part
from course_lib.profile import seeded_generator

FOOD, SIZE = "food_photographs", 96
STEPS, BATCH, CHOSEN_BY, TESTED = 48, 16, 100, 400
ACCURACY = Measure("test_accuracy", digits=3)
LEARNED = Measure("train_accuracy", digits=3)
GAP = Measure("gap", digits=3)
RATE = Measure("rate", digits=4)

Start = Callable[[], nn.Module]
AfterStep = Callable[[int, nn.Module], None]


@dataclass(frozen=True)
class Chosen:
    """A trained network, the best of those at several rates.

    Attributes:
        model: in evaluation mode.
        rate: at which it was trained.
        loss: on the pictures to choose by.
    """

    model: nn.Module
    rate: float
    loss: float


@cache
def _network(pretrained: bool, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbones.load(pools.NETWORK, num_classes=2, pretrained=pretrained)


def network(seed: int, pretrained: bool = True) -> nn.Module:
    """Lite0 with a new head for two classes and, if not pretrained, new weights everywhere."""
    model = copy.deepcopy(_network(pretrained, seed))
    return model.to(memory_format=torch.channels_last)


def head_of(model: nn.Module) -> nn.Module:
    """The last layer."""
    return model.get_submodule(backbones.head_name(model))


def body_of(model: nn.Module) -> list[nn.Module]:
    """All layers but the last, in order."""
    return [each for name, each in model.named_children() if name != backbones.head_name(model)]


def hold_statistics(model: nn.Module, names: Sequence[str]) -> None:
    """In these layers, BatchNorm computes with the statistics that it has, as in inference."""
    for name in names:
        for each in model.get_submodule(name).modules():
            if isinstance(each, nn.BatchNorm2d):
                each.eval()


def fit(
    model: nn.Module,
    part: Part,
    rate: float,
    seed: int,
    steps: int = STEPS,
    *,
    body_factor: float = 1.0,
    held: Sequence[str] = (),
    warmup: Callable[[int], float] | None = None,
    after_step: AfterStep | None = None,
) -> nn.Module:
    """Train what requires a gradient by SGD with momentum 0.9.

    Args:
        model: its head learns at ``rate``, its body at ``rate * body_factor``.
        part: to learn from; it is gone through as often as the steps need.
        rate: learning rate.
        seed: of the order.
        steps: how many.
        body_factor: 0.1 lets the body learn a tenth as fast.
        held: layers in which BatchNorm's statistics stay as they are; ``("",)`` for all.
        warmup: from the number of a step to the factor of its rates.
        after_step: called with the number of each step and the model.
    """
    head = {id(each) for each in head_of(model).parameters()}
    learned = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(
        [
            {"params": [each for each in learned if id(each) in head], "lr": rate},
            {
                "params": [each for each in learned if id(each) not in head],
                "lr": rate * body_factor,
            },
        ],
        momentum=0.9,
    )
    constant = [group["lr"] for group in optimizer.param_groups]
    stream = seeded_generator(6000 + seed)
    model.train()
    hold_statistics(model, held)
    waiting: list[Tensor] = []
    for step in range(1, steps + 1):
        waiting = waiting or list(torch.randperm(len(part), generator=stream).split(BATCH))
        chosen = waiting.pop(0)
        for group, lr in zip(optimizer.param_groups, constant, strict=True):
            group["lr"] = lr * (warmup(step) if warmup else 1.0)
        optimizer.zero_grad()
        F.cross_entropy(model(part.images[chosen]), part.targets[chosen]).backward()
        optimizer.step()
        if after_step:
            after_step(step, model)
    return model.eval()


@torch.no_grad()
def scores(model: nn.Module, images: Tensor) -> Tensor:
    """Scores (N, 2), finite also for a network that diverged."""
    model.eval()
    return torch.cat([model(each) for each in images.split(50)]).nan_to_num()


def loss(model: nn.Module, part: Part) -> float:
    """Mean cross-entropy."""
    return float(F.cross_entropy(scores(model, part.images), part.targets))


def best(trained: Mapping[float, nn.Module], val: Part) -> Chosen:
    """The network with the smallest loss on the pictures to choose by."""
    ranked = [Chosen(model, rate, loss(model, val)) for rate, model in trained.items()]
    return min(ranked, key=lambda each: each.loss)


def part_of(pool: str, places: Sequence[int], size: int = SIZE) -> Part:
    """Pictures of a pool with their classes."""
    images = pools.images(pool, size)[list(places)]
    return Part(images.to(memory_format=torch.channels_last), pools.targets(pool)[list(places)])


def measured(
    chosen: Chosen, pool: str, drawn: pools.Draw, train: Part, test: Part
) -> dict[str, float | Answers]:
    """What is recorded of an arm; the gap is the accuracy on what was learned minus that on the
    test pictures."""
    tested = pools.answers(scores(chosen.model, test.images).argmax(1), pool, drawn.test)
    right = scores(chosen.model, train.images).argmax(1) == train.targets
    learned = float(right.double().mean())
    return {
        "test_accuracy": tested, "train_accuracy": learned, "gap": learned - float(tested),
        "rate": chosen.rate,
    }  # fmt: skip


FIRST = ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3")
"""The first of the network's seven blocks, and what comes before."""


def start(way: str, seed: int) -> nn.Module:
    """The network of a way, with what it trains."""
    model = network(seed, pretrained=way != "scratch")
    if way == "head only":
        model.requires_grad_(False)
        head_of(model).requires_grad_(True)
    elif way == "first blocks frozen":
        for each in (model.get_submodule(name) for name in FIRST):
            each.requires_grad_(False)
    return model


WAYS = ("scratch", "all layers", "BatchNorm held", "first blocks frozen", "head only")
RATES: dict[str, tuple[float, ...]] = {
    "scratch": (0.01, 0.03, 0.1),
    "BatchNorm held": (0.0001, 0.0003, 0.001),
    "head only": (0.0003, 0.001, 0.003),
}
HELD: dict[str, tuple[str, ...]] = {"BatchNorm held": ("",), "first blocks frozen": FIRST}
USUAL = (0.001, 0.003, 0.01)


def of_way(way: str, train: Part, val: Part, seed: int) -> Chosen:
    """A way at each of its rates; the best by validation."""
    model = start(way, seed)
    rates = RATES.get(way, USUAL)
    if way != "head only":
        return best({
            rate: fit(copy.deepcopy(model), train, rate, seed, held=HELD.get(way, ()))
            for rate in rates
        }, val)  # fmt: skip
    # The body stands still, so its features are computed once; the numbers are the same.
    train, val = (Part(before_head(model, each.images), each.targets) for each in (train, val))
    alone = best({
        rate: fit(OnlyHead(copy.deepcopy(head_of(model))), train, rate, seed) for rate in rates
    }, val)  # fmt: skip
    head_of(model).load_state_dict(head_of(alone.model).state_dict())
    return Chosen(model, alone.rate, alone.loss)


class OnlyHead(nn.Module):
    """A head that stands for the whole network where its input is features."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.classifier = head

    def forward(self, rows: Tensor) -> Tensor:
        """Scores (N, 2) of features (N, D)."""
        scored: Tensor = self.classifier(rows)
        return scored


@torch.no_grad()
def before_head(model: nn.Module, images: Tensor) -> Tensor:
    """What the head gets (N, D), in inference."""
    kept: list[Tensor] = []
    handle = head_of(model).register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    scores(model, images)
    handle.remove()
    return torch.cat(kept)


DRAWN_LEARNED, DRAWN_CHOSEN_BY, DRAWN_TESTED = 96, 40, 120


@experiment(
    "C8", seeds=5, arms=("all layers", "BatchNorm held", "head only"),
    measures=(ACCURACY, RATE, Measure("pictures_per_second", digits=1, timing=True)),
    contrasts=(
        Contrast("accuracy", "head only", "all layers", "test_accuracy", "not less", margin=0.05,
                 when="accuracy counts: at most 0.05 less"),
        Contrast("held", "head only", "BatchNorm held", "test_accuracy", "not less", margin=0.05,
                 when="accuracy counts, and BatchNorm is held in the other arm"),
        Contrast("speed", "head only", "all layers", "pictures_per_second", "more", margin=1.46,
                 ratio=True, when="speed counts: at least 1.46 times as fast"),
    ),
    files=("hotdog_rendered/manifest.json",), minutes=6.5,
)  # fmt: skip
def freeze_all_but_the_head(seed: int) -> Outcome:
    """Does freezing all but the head cost little accuracy and make training 1.46 times as fast?

    Data: of the 320 drawn pictures at 96 pixels, 96 to learn from, 40 to choose by and 120 to be
    tested on, all drawn by the seed. Arms: all layers trained; the same with BatchNorm's statistics
    held; the head only. Budget: three rates each, 48 steps, the best by validation loss, recorded.
    Measures: test accuracy; and pictures a second of processor time in 12 steps of training, the
    frozen body passed through in each (no gradients, in inference), with nothing kept. Prediction
    of the claim: the head has at most 0.05 less than all layers, and is at least 1.46 times as
    fast, as its reader measured on a GPU.
    """
    places = pools.draw("drawn", seed, DRAWN_LEARNED, DRAWN_CHOSEN_BY, DRAWN_TESTED)
    train, val, test = (part_of("drawn", each) for each in (places.train, places.val, places.test))
    found: dict[str, dict[str, float | Answers]] = {}
    for way in ("all layers", "BatchNorm held", "head only"):
        chosen = of_way(way, train, val, seed)
        said = scores(chosen.model, test.images).argmax(1)
        found[way] = {
            "test_accuracy": pools.answers(said, "drawn", places.test), "rate": chosen.rate,
            "pictures_per_second": speed(way, train, seed),
        }  # fmt: skip
    return found


def speed(way: str, train: Part, seed: int, steps: int = 12) -> float:
    """Pictures a second of processor time, without the first two steps."""
    model, ends = start(way, seed), []
    held = ("",) if way == "head only" else HELD.get(way, ())
    fit(model, train, 0.0001, seed, steps, held=held,
        after_step=lambda *_: ends.append(time.process_time()))  # fmt: skip
    return BATCH * (steps - 2) / (ends[-1] - ends[1])


@experiment(
    "hotdog_margin", seeds=5, arms=("from scratch", "fine-tuned"),
    measures=(ACCURACY, LEARNED, GAP, RATE),
    contrasts=(Contrast("gain", "fine-tuned", "from scratch", "test_accuracy", "more"),),
    files=("hotdog_rendered/manifest.json",), minutes=6,
)  # fmt: skip
def few_pictures(seed: int) -> Outcome:
    """Few pictures: fine-tuning against training from scratch, as in chapter 02.

    Data: of the 320 drawn pictures at 96 pixels, 96 to learn from, 40 to choose by and 120 to be
    tested on, all drawn by the seed. Arms: EfficientNet-Lite0 from ImageNet's weights with a new
    head, all layers trained; the same network from random weights. Budget: three rates each, 48
    steps of SGD with momentum in batches of 16, the best by validation loss, recorded. Measures:
    test accuracy; accuracy on the pictures learned from; and the gap between them. Prediction of
    the claim: fine-tuned is better. (With so few steps, new weights end near chance: the claim is
    about the same budget, not about what scratch could reach.)
    """
    places = pools.draw("drawn", seed, DRAWN_LEARNED, DRAWN_CHOSEN_BY, DRAWN_TESTED)
    train, val, test = (part_of("drawn", each) for each in (places.train, places.val, places.test))
    ways = {"from scratch": "scratch", "fine-tuned": "all layers"}
    return {
        arm: measured(of_way(way, train, val, seed), "drawn", places, train, test)
        for arm, way in ways.items()
    }


AMOUNTS = (10, 50, 200)


def of_amount(ways: Sequence[str], n: int, seed: int) -> dict[str, dict[str, float | Answers]]:
    """Every way on ``n`` photographs, and the best other of each way by the validation loss."""
    places = pools.draw(FOOD, seed, n, CHOSEN_BY, TESTED)
    train, val, test = (part_of(FOOD, each) for each in (places.train, places.val, places.test))
    chosen = {way: of_way(way, train, val, seed) for way in ways}
    found = {way: measured(each, FOOD, places, train, test) for way, each in chosen.items()}
    for way in ways:
        others = {other: each for other, each in chosen.items() if other != way}
        found[f"best but {way}"] = found[min(others, key=lambda other: others[other].loss)]
    return found


def named(ways: Sequence[str], amounts: Sequence[int], more: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the arms."""
    bests = [f"best but {way}" for way in ways]
    return (*(f"{n}: {way}" for n in amounts for way in (*ways, *bests)), *more)


def against(name: str, treatment: str, control: str, when: str) -> Contrast:
    """Two arms, of which the first is said to have more test accuracy."""
    return Contrast(name, treatment, control, "test_accuracy", "more", when=when)


@experiment(
    "layers_photographs", seeds=18, arms=named(WAYS, AMOUNTS),
    measures=(ACCURACY, LEARNED, GAP, RATE),
    contrasts={
        "C1_photographs": tuple(
            against(f"gain_{n}", f"{n}: all layers", f"{n}: scratch", f"there are {n} photographs")
            for n in AMOUNTS
        ),
        "C3_photographs": (
            against("few_similar", "10: head only", "10: best but head only",
                    "data are few and similar (10)"),
            against("many_similar", "200: all layers", "200: best but all layers",
                    "data are many and similar (200)"),
        ),
        "C5_photographs": (
            against("very_few", "10: head only", "10: all layers",
                    "there are very few data (10): the head only"),
            against("medium", "50: first blocks frozen", "50: all layers",
                    "there are some data (50): the first blocks frozen"),
            against("medium_head", "50: first blocks frozen", "50: head only",
                    "there are some data (50), against the head only"),
        ),
        "C8_photographs": (
            Contrast("accuracy_50", "50: head only", "50: all layers", "test_accuracy", "not less",
                     margin=0.03, when="there are 50 photographs"),
            Contrast("accuracy_200", "200: head only", "200: all layers", "test_accuracy",
                     "not less", margin=0.03, when="there are 200 photographs"),
            Contrast("held_200", "200: head only", "200: BatchNorm held", "test_accuracy",
                     "not less", margin=0.03,
                     when="there are 200 photographs, and BatchNorm is held in the other arm"),
        ),
        "C18_photographs": (
            against("gain_10", "10: all layers", "10: scratch", "all layers are trained"),
            against("head_10", "10: head only", "10: scratch", "the head only is trained"),
        ),
        "C21_photographs": (
            Contrast("fewer", "10: all layers", "200: all layers", "gap", "more",
                     when="all layers of a pretrained network are trained on 10, not on 200"),
            Contrast("transfer", "10: head only", "10: scratch", "gap", "less",
                     when="the head only is set against new weights, on 10"),
        ),
    },
    photographs=FOOD, minutes=95,
)  # fmt: skip
def which_layers(seed: int) -> Outcome:
    """Which layers of a real network should be trained on 10, 50 and 200 photographs?

    Data: hot dogs and other food, half and half. Arms at each amount: new weights everywhere
    (scratch); all layers of the pretrained network; the same with BatchNorm's statistics held; the
    first blocks frozen (the stem and four of seven, as in inference); the head only; and for each
    of these the best other, by validation loss. Budget: three rates each, recorded. Measures: test
    accuracy; accuracy on the pictures learned from; and the gap between the two. Prediction of the
    claims: all layers beat scratch at every amount (C1, C18); at 10 the head only beats the best
    other, at 200 all layers do (C3); at 10 the head only beats all layers, at 50 the frozen first
    blocks do (C5); the head only has at most 0.03 less than all layers (C8); the gap is larger at
    10 than at 200, and smaller for the head only than from scratch (C21).
    """
    return {f"{n}: {way}": each for n in AMOUNTS for way, each in of_amount(WAYS, n, seed).items()}
