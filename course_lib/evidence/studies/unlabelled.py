"""Pretraining without labels: rotation and contrast, on digits and on photographs.

The designs were made on draws 0 to 2; results are from draws 20 on.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.studies import distillation, hops
from course_lib.profile import seeded_generator
from course_lib.strategies import unlabelled

FIRST_DRAW = 20
ACCURACY = Measure("test_accuracy", digits=3)
STEPS = 300  # of each pretraining without labels on digits
AMOUNTS = (10, 50)
STARTS = ("scratch", "labels", "rotation", "contrast", "contrast, others")


def body_of(network: nn.Sequential) -> nn.Sequential:
    """All but the head, the same layers."""
    return network[:-1]


def rotation(network: nn.Sequential, images: Tensor, seed: int) -> nn.Sequential:
    """Pretrained to tell quarter turns apart."""
    unlabelled.by_rotation(body_of(network), images, rate=0.03, steps=STEPS, seed=seed)
    return network


def contrast(network: nn.Sequential, images: Tensor, seed: int) -> nn.Sequential:
    """Pretrained by SimCLR."""
    unlabelled.by_contrast(
        body_of(network), images, unlabelled.digit_view, rate=0.1, steps=STEPS, batch_size=64,
        seed=seed,
    )  # fmt: skip
    return network


def few_labels(
    starts: Mapping[str, nn.Sequential], tasks: Mapping[int, digits.Task], seed: int,
    rates: Sequence[float], steps: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """From each start and each amount of labels: a linear probe, and all layers trained.

    Args:
        starts: networks with a new head, the same in all.
        tasks: amount of labels to task.
        seed: of the order.
        rates: of the fine-tuning; the best by validation.
        steps: of each.
    """
    found: dict[str, dict[str, float]] = {}
    for way, network in starts.items():
        body = body_of(network).eval()
        for n, task in tasks.items():
            with torch.no_grad():
                rows = (
                    digits.Part(body(each.images), each.targets)
                    for each in (task.train, task.val, task.test)
                )
                found[f"{way} {n}: probe"] = {"test_accuracy": hops.linear_head(*rows)}
            tuned = digits.tuned(lambda network=network: copy.deepcopy(network),  # type: ignore[misc]
                                 task, seed, rates, steps=steps)  # fmt: skip
            found[f"{way} {n}: tuned"] = {"test_accuracy": tuned.test}
    return found


def all_arms(starts: Sequence[str], amounts: Sequence[int]) -> tuple[str, ...]:
    """The arms of :func:`few_labels`."""
    return tuple(f"{way} {n}: {how}"
                 for n in amounts for way in starts for how in ("probe", "tuned"))  # fmt: skip


@experiment(
    "unlabelled", seeds=40, arms=all_arms(STARTS, AMOUNTS), measures=(ACCURACY,),
    contrasts=(
        Contrast("contrast_few", "contrast 10: tuned", "scratch 10: tuned", "test_accuracy", "more",
                 when="by contrast, then ten labels"),
        Contrast("rotation_few", "rotation 10: tuned", "scratch 10: tuned", "test_accuracy", "more",
                 when="by rotation, then ten labels"),
        Contrast("contrast_more", "contrast 50: tuned", "scratch 50: tuned", "test_accuracy",
                 "more", when="by contrast, then fifty labels"),
        Contrast("rotation_more", "rotation 50: tuned", "scratch 50: tuned", "test_accuracy",
                 "more", when="by rotation, then fifty labels"),
        Contrast("labels", "contrast 10: tuned", "labels 10: tuned", "test_accuracy", "more",
                 when="own pictures without labels are set against others with labels"),
        Contrast("others", "contrast, others 10: tuned", "scratch 10: tuned", "test_accuracy",
                 "more", when="by contrast, on pictures of other classes only"),
    ),
    minutes=12.5,
)  # fmt: skip
def of_digits(seed: int) -> Outcome:
    """Is a body that was pretrained without labels a better start than a new one?

    Data: 10 and 50 labelled pictures of the digits 5 to 9. Arms at each amount, all from the same
    first weights and with the same new head: scratch; by rotation (300 steps of 32 pictures in four
    turns) or by contrast (300 steps of 64 pictures in two views) on about 300 pictures of 5 to 9
    without their labels, the labelled ones among them; by contrast on the about 900 digits 0 to 4
    (others); and on these with their labels (800 steps). Then a linear probe on the frozen body
    (four penalties) and, apart from it, all layers trained (four rates, 200 steps), the best by 150
    validation pictures. Measure: accuracy on 450 test pictures. Prediction of the claim: at both
    amounts, with all layers trained, rotation and contrast have more than scratch; with ten labels,
    contrast has more than the labels of other classes, and contrast on other classes more than
    scratch.
    """
    draw = FIRST_DRAW + seed
    first = digits.new_network(3000 + draw)
    own, others = own_pictures(draw), digits._of_classes(0, 4).images
    starts = {
        "scratch": copy.deepcopy(first),
        "labels": digits.pretrained(draw),
        "rotation": rotation(copy.deepcopy(first), own, draw),
        "contrast": contrast(copy.deepcopy(first), own, draw),
        "contrast, others": contrast(copy.deepcopy(first), others, draw),
    }
    for each in starts.values():
        each.fc = digits.new_network(4000 + draw).fc
    tasks = {n: digits.target_task(draw, n) for n in AMOUNTS}
    return few_labels(starts, tasks, draw, digits.RATES, digits.STEPS)


def own_pictures(seed: int) -> Tensor:
    """The pictures of 5 to 9 that are neither for validation nor for the test, without labels."""
    whole = digits._of_classes(5, 9)
    order = torch.randperm(len(whole), generator=seeded_generator(1000 + seed))
    return whole.images[order[digits.TEST + digits.VALIDATION :]]


PHOTO_STARTS = ("scratch", "labels", "rotation", "contrast")
PHOTO_AMOUNTS = (25, 250)
UNLABELLED, CHOICE, MEASURED = 2500, 250, 1000
PHOTO_STEPS, TUNE_STEPS, TUNE_RATES = 300, 150, (0.01, 0.03, 0.1)


def photo_network(seed: int) -> nn.Sequential:
    """Three convolutions with BatchNorm for pictures of 32 pixels, and a head for five classes."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, (before, after) in enumerate(((3, 32), (32, 64), (64, 128)), start=1):
            layers[f"conv{number}"] = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers[f"bn{number}"] = nn.BatchNorm2d(after)
            layers[f"relu{number}"] = nn.ReLU()
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        return nn.Sequential(OrderedDict(layers, fc=nn.Linear(128, 5)))


def small(part: digits.Part) -> digits.Part:
    """At 32 pixels."""
    return digits.Part(F.avg_pool2d(part.images, 2), part.targets)


@experiment(
    "unlabelled_photographs", seeds=5, arms=all_arms(PHOTO_STARTS, PHOTO_AMOUNTS),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("contrast_few", "contrast 25: tuned", "scratch 25: tuned", "test_accuracy", "more",
                 when="by contrast, then 25 labels"),
        Contrast("rotation_few", "rotation 25: tuned", "scratch 25: tuned", "test_accuracy", "more",
                 when="by rotation, then 25 labels"),
        Contrast("contrast_more", "contrast 250: tuned", "scratch 250: tuned", "test_accuracy",
                 "more", when="by contrast, then 250 labels"),
        Contrast("rotation_more", "rotation 250: tuned", "scratch 250: tuned", "test_accuracy",
                 "more", when="by rotation, then 250 labels"),
    ),
    photographs="cifar10", minutes=8,
)  # fmt: skip
def of_photographs(seed: int) -> Outcome:
    """The same for photographs: is a body pretrained without labels a better start than a new one?

    Data: CIFAR-10 in a public copy as JPEG, at 32 pixels. The task: dogs, frogs, horses, ships and
    lorries, from 25 and 250 labelled pictures. Arms at each amount, three convolutions with the
    same first weights: scratch; pretrained on 2,500 pictures of the other five classes with their
    labels; by rotation or by contrast on 2,500 pictures of the task's own classes without, the
    labelled ones among them. Every pretraining has 300 steps: of 64 pictures with labels, of 32 in
    four turns, of 128 in two views. Then a linear probe (four penalties) and, apart from it, all
    layers trained (three rates, 150 steps), the best by 250 validation pictures. Measure: accuracy
    on 1,000 pictures of the test part. Prediction of the claim: at both amounts, with all layers
    trained, rotation and contrast have more than scratch.
    """
    draw = FIRST_DRAW + seed
    pool = small(distillation.photographs("train", range(5, 10), UNLABELLED + CHOICE, draw))
    test = small(distillation.photographs("test", range(5, 10), MEASURED, draw))
    others = small(distillation.photographs("train", range(5), UNLABELLED, draw))
    by_class = [(pool.targets == each).nonzero()[:, 0] for each in range(5)]

    def of_each(first: int, last: int) -> digits.Part:
        rows = torch.cat([each[first:last] for each in by_class])
        return digits.Part(pool.images[rows], pool.targets[rows])

    own, val = of_each(0, UNLABELLED // 5), of_each(UNLABELLED // 5, (UNLABELLED + CHOICE) // 5)
    starts = {way: photo_network(3000 + draw) for way in PHOTO_STARTS}
    fit_in_batches(starts["labels"], others, draw)
    unlabelled.by_rotation(
        body_of(starts["rotation"]), own.images, rate=0.1, steps=PHOTO_STEPS, seed=draw
    )
    unlabelled.by_contrast(
        body_of(starts["contrast"]), own.images, unlabelled.photograph_view, rate=0.1,
        steps=PHOTO_STEPS, seed=draw,
    )  # fmt: skip
    for each in starts.values():
        each.fc = photo_network(4000 + draw).fc
    tasks = {n: digits.Task(of_each(0, n // 5), val, test) for n in PHOTO_AMOUNTS}
    return few_labels(starts, tasks, draw, TUNE_RATES, TUNE_STEPS)


def fit_in_batches(
    network: nn.Sequential, part: digits.Part, seed: int, steps: int = PHOTO_STEPS
) -> nn.Sequential:
    """Supervised pretraining in batches of 64."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    stream, waiting = seeded_generator(6000 + seed), list[Tensor]()
    network.train()
    for _ in range(steps):
        waiting = waiting or list(torch.randperm(len(part), generator=stream).split(64))
        rows = waiting.pop(0)
        optimizer.zero_grad()
        F.cross_entropy(network(part.images[rows]), part.targets[rows]).backward()
        optimizer.step()
    return network.eval()
