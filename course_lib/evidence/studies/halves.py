"""C2, C4, C13 and C19 on photographs: CIFAR-10's two halves and a small network.

CIFAR-10 in a public copy as JPEG, 32 pixels. The network, three convolutions with BatchNorm, is
pretrained on aeroplanes, cars, birds, cats and deer (5,000 each: 1,200 steps of 64 at one rate);
the task is to tell dogs, frogs, horses, ships and lorries apart. Every training of the task has
batches of 16 and three learning rates, the best by 250 pictures to choose by, recorded; tested on
1,000 of the test part. The seed draws weights, order and pictures. Designed on draw 100.
"""

import copy
from collections.abc import Callable
from functools import cache, lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset
from torchvision.transforms import v2

from course_lib import data
from course_lib.evidence import digits
from course_lib.evidence.design import Answers, Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import folder
from course_lib.evidence.studies import steps, unlabelled
from course_lib.profile import seeded_generator

CIFAR, MANY = "cifar10", 24_000
CHOSEN_BY, TESTED = 250, 1000
RATES = (0.01, 0.03, 0.1)
STEPS, MANY_STEPS, SOURCE_STEPS = 300, 1500, 1200

ACCURACY = Measure("test_accuracy", digits=3)
RATE = Measure("rate", digits=2)
CORRUPTED = Measure("corrupted", digits=3)
LOST = tuple(Measure(f"lost_{strength}", digits=3) for strength in ("weak", "middle", "strong"))


@cache
def whole(split: str) -> digits.Part:
    """All pictures of a split (N, 3, 32, 32), values -1 to 1, and their classes (N,), 0 to 9.

    ``"train"`` has all 50,000: those that :func:`course_lib.data.image_folder` would put aside to
    choose by, too.
    """
    values = v2.ToDtype(torch.float32, scale=True)
    see = v2.Compose([v2.ToImage(), values, v2.Normalize([0.5], [0.5])])
    parts = ("train", "val") if split == "train" else (split,)
    pictures: ConcatDataset[tuple[Tensor, int]] = ConcatDataset(
        [data.image_folder(folder(CIFAR), part, see) for part in parts]
    )
    items = [pictures[i] for i in range(len(pictures))]
    images = torch.stack([image for image, _ in items])
    return digits.Part(images, torch.tensor([target for _, target in items]))


def half(split: str, first: int) -> tuple[Tensor, Tensor]:
    """Places (N,) in a split of five classes from ``first`` on, and their classes, 0 to 4."""
    targets = whole(split).targets
    places = ((targets >= first) & (targets < first + 5)).nonzero()[:, 0]
    return places, targets[places] - first


def balanced(split: str, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Places (n,) of the task's pictures, every class equally often, and their classes.

    In the order in which they were drawn, class by class in turns: the first of them are a smaller
    draw of the same seed.
    """
    places, targets = half(split, 5)
    order = torch.randperm(len(places), generator=seeded_generator(9000 + seed))
    each = [order[targets[order] == label][: n // 5] for label in range(5)]
    rows = torch.stack(each, 1).flatten()
    return places[rows], targets[rows]


@lru_cache(maxsize=4)
def task(seed: int, n: int) -> digits.Task:
    """``n`` pictures to learn from, 250 to choose by, 1,000 to be tested on."""
    places, targets = balanced("train", CHOSEN_BY + n, seed)
    tested, right = balanced("test", TESTED, seed)
    images = whole("train").images[places]
    val, train = (
        digits.Part(images[rows], targets[rows])
        for rows in (slice(CHOSEN_BY), slice(CHOSEN_BY, None))
    )
    return digits.Task(train, val, digits.Part(whole("test").images[tested], right))


def shuffled(images: Tensor, stream: torch.Generator) -> Tensor:
    """All pixels in another order, the same for every picture: nothing local is left."""
    order = torch.randperm(32 * 32, generator=stream)
    return images.flatten(2)[..., order].reshape(images.shape)


@lru_cache(maxsize=4)
def source(seed: int, way: str) -> nn.Sequential:
    """The network after the first five classes, as they are or made odd, with a new head."""
    places, targets = half("train", 0)
    images, stream = whole("train").images[places], seeded_generator(2000 + seed)
    if way == "shuffled pixels":
        images = shuffled(images, stream)
    elif way == "drawn labels":
        targets = targets[torch.randperm(len(targets), generator=stream)]
    network = unlabelled.photo_network(3000 + seed)
    unlabelled.fit_in_batches(network, digits.Part(images, targets), seed, steps=SOURCE_STEPS)
    network.fc = unlabelled.photo_network(4000 + seed).fc
    return network


def start(seed: int, way: str) -> Callable[[], nn.Sequential]:
    """What a way starts from."""
    if way == "scratch":
        return lambda: unlabelled.photo_network(7000 + seed)
    return lambda: copy.deepcopy(source(seed, way))


def noise(images: Tensor, strength: int, stream: torch.Generator) -> Tensor:
    """Gaussian, of standard deviation 0.04, 0.08 or 0.16."""
    return images + (0.04, 0.08, 0.16)[strength] * torch.randn(images.shape, generator=stream)


def blur(images: Tensor, strength: int, _: torch.Generator) -> Tensor:
    """Gaussian, of 0.5, 0.8 or 1.2 pixels."""
    return v2.functional.gaussian_blur(images, [5, 5], [(0.5, 0.8, 1.2)[strength]])


def contrast(images: Tensor, strength: int, _: torch.Generator) -> Tensor:
    """Reduced to 0.7, 0.5 or 0.3."""
    return v2.functional.adjust_contrast(images, (0.7, 0.5, 0.3)[strength])


def brightness(images: Tensor, strength: int, _: torch.Generator) -> Tensor:
    """Raised by 0.1, 0.2 or 0.3."""
    return images + (0.1, 0.2, 0.3)[strength]


def pixels(images: Tensor, strength: int, _: torch.Generator) -> Tensor:
    """Coarse: 24, 16 or 12 a side."""
    coarse = F.interpolate(images, size=(24, 16, 12)[strength], mode="area")
    return F.interpolate(coarse, size=images.shape[-1])


CORRUPTIONS = (noise, blur, contrast, brightness, pixels)
"""Kinds of D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common
Corruptions, 2019, in three strengths; pictures (N, 3, 32, 32) with values 0 to 1."""

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]


def corrupted(images: Tensor, corruption: Corruption, strength: int) -> Tensor:
    """The pictures spoiled, and limited to what a file can hold."""
    result = corruption(images / 2 + 0.5, strength, seeded_generator(strength))
    return result.clamp(0, 1) * 2 - 1


@lru_cache(maxsize=1)
def spoiled(seed: int) -> list[list[digits.Part]]:
    """A draw's test pictures at each strength, once for each corruption."""
    test = task(seed, MANY).test
    return [
        [digits.Part(corrupted(test.images, kind, strength), test.targets) for kind in CORRUPTIONS]
        for strength in range(3)
    ]


def measured(seed: int, way: str, n: int) -> dict[str, float | Answers]:
    """A way at its best rate: accuracy on the test pictures, as they are and spoiled."""
    its = task(seed, n)
    tried = digits.over_rates(
        start(seed, way), its, seed, RATES, steps=MANY_STEPS if n == MANY else STEPS
    )
    told = digits.told(tried)
    model = tried[told["rate"]].model
    with torch.no_grad():
        right = model(its.test.images).argmax(1) == its.test.targets
    tested = balanced("test", TESTED, seed)[0]
    lost = [
        told["test_accuracy"]
        - sum(digits.look(model, each)[0] for each in parts) / len(CORRUPTIONS)
        for parts in spoiled(seed)
    ]
    return {
        "test_accuracy": _by_place(tested, right), "rate": told["rate"],
        "corrupted": told["test_accuracy"] - sum(lost) / 3,
        **{each.name: value for each, value in zip(LOST, lost, strict=True)},
    }  # fmt: skip


def _by_place(places: Tensor, right: Tensor) -> Answers:
    order = places.argsort()
    return Answers(tuple(places[order].tolist()), tuple(right[order].tolist()))


ARMS = {
    f"{arm} {n}": (way, n)
    for n in (50, 250, 2500, MANY)
    for arm, way in {"scratch": "scratch", "fine-tuned": "as it is"}.items()
} | {f"{way} 250": (way, 250) for way in ("shuffled pixels", "drawn labels")}


def less_lost(strength: str, n: int = 250) -> Contrast:
    """Fine-tuned against scratch, by what spoiled pictures cost."""
    return Contrast(
        f"{strength}_{n}", f"fine-tuned {n}", f"scratch {n}", f"lost_{strength}", "less",
        when=f"{n:,} pictures, {strength} corruptions, by what they cost",
    )  # fmt: skip


@experiment(
    "halves_photographs", seeds=30, arms=tuple(ARMS), measures=(ACCURACY, RATE, CORRUPTED, *LOST),
    contrasts={
        "C2_photographs": (
            Contrast("shuffled", "shuffled pixels 250", "scratch 250", "test_accuracy", "less",
                     when="the source's pictures have their pixels shuffled"),
            Contrast("labels", "drawn labels 250", "scratch 250", "test_accuracy", "less",
                     when="the source's labels were drawn at random"),
            Contrast("against_related", "shuffled pixels 250", "fine-tuned 250", "test_accuracy",
                     "less", when="compared with a related source"),
        ),
        "C13_photographs": (
            Contrast("enough", f"scratch {MANY}", f"fine-tuned {MANY}", "test_accuracy", "more",
                     when="there are enough data (24,000 pictures): scratch is better"),
            Contrast("fewer", "fine-tuned 50", "scratch 250", "test_accuracy", "more",
                     when="50 pictures are meant to do what 250 do"),
            Contrast("far_fewer", "fine-tuned 250", "scratch 2500", "test_accuracy", "more",
                     when="250 pictures are meant to do what 2,500 do"),
        ),
        "C19_photographs": (
            Contrast("accuracy", "fine-tuned 250", "scratch 250", "corrupted", "more",
                     when="250 pictures, by accuracy on corrupted pictures"),
            *(less_lost(strength) for strength in ("weak", "middle", "strong")),
            less_lost("strong", MANY),
        ),
    },
    photographs=CIFAR, minutes=92,
)  # fmt: skip
def halves(seed: int) -> Outcome:
    """From new weights, or from the other five classes: how good, from how few, how robust?

    Data: 50, 250, 2,500 and 24,000 photographs to learn from, the smaller among the larger. Arms:
    scratch and fine-tuned at each; at 250 also fine-tuned from weights that were pretrained on the
    same source with its pixels in another order (nothing local is left), and with labels drawn at
    random. All layers are trained. Budget: three rates, 300 steps each, 1,500 (once through) at
    24,000 pictures. Measures: test accuracy; the mean accuracy on the test pictures after five
    corruptions (noise, blur, contrast, brightness, coarse pixels) in three strengths; and at each
    strength what they cost, accuracy without minus accuracy with. Prediction of the claims: the odd
    sources are worse than new weights and than the related one (C2); at 24,000 scratch is better,
    and fine-tuned with 50 and 250 is better than scratch with 250 and 2,500 (C13); fine-tuned is
    more accurate on corrupted pictures, and loses less at every strength (C19).
    """
    return {arm: measured(seed, *what) for arm, what in ARMS.items()}


@experiment(
    "C4_photographs", seeds=5, arms=steps.C4_ARMS, measures=steps.C4_MEASURES,
    contrasts=steps.C4_CONTRASTS, photographs=CIFAR, minutes=7,
)  # fmt: skip
def a_tenth_of_the_rate(seed: int) -> Outcome:
    """The same on photographs: does fine-tuning want a learning rate about ten times smaller?

    Data: 250 photographs to learn from. Arms: new weights, and those pretrained on the other five
    classes, all layers trained, each at seven rates from 0.0003 to 0.3, 300 steps; and the
    pretrained ones at the rate nearest to a tenth of the best for scratch. Measures as on digits.
    Prediction of the claim: as on digits.
    """
    starts = {"scratch": start(seed, "scratch"), "fine-tuned": start(seed, "as it is")}
    return steps.by_rate(starts, task(seed, 250), seed, steps=STEPS)
