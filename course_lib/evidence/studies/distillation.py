"""Teacher and student: on digits with small networks, and on photographs with an ImageNet teacher.

The designs were made on draws 0 to 2; results are from draws 20 on.
"""

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import backbones, data
from course_lib.evidence import digits
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import folder
from course_lib.evidence.studies import hops, shift
from course_lib.features.classical import classifiers
from course_lib.strategies import distillation

FIRST_DRAW = 20
ACCURACY = Measure("test_accuracy", digits=3)
SMALL, LARGE = 4, 32  # channels of the first convolution
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
STEPS, TEMPERATURE = 400, 4.0
TEACHER_RATE = 0.03


def plain_network(width: int, seed: int) -> nn.Sequential:
    """Three convolutions and a head for ten digits, as wide as you like."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * width, 10),
        )  # fmt: skip


def taught(
    start: nn.Sequential, scores: Tensor, images: Tensor, task: digits.Task, seed: int
) -> digits.Score:
    """A student of soft answers alone; the best of the rates by validation."""
    return digits.best(
        digits.score(
            distillation.distil(
                copy.deepcopy(start), scores, images, temperature=TEMPERATURE, hard_share=0.0,
                rate=rate, steps=STEPS, seed=seed,
            ),
            task,
        )
        for rate in RATES
    )  # fmt: skip


@experiment(
    "distillation", seeds=18,
    arms=("teacher", "alone", "distilled", "same labels", "self-distilled", "extra", "extra hard"),
    measures=(ACCURACY,),
    contrasts=(
        Contrast("better", "distilled", "alone", "test_accuracy", "more",
                 when="the teacher learned from more labels"),
        Contrast("equal", "same labels", "alone", "test_accuracy", "more",
                 when="the teacher is only wider"),
        Contrast("again", "self-distilled", "alone", "test_accuracy", "more",
                 when="the teacher is the student itself, trained alone"),
        Contrast("extra", "extra", "distilled", "test_accuracy", "more",
                 when="unlabelled pictures are added"),
        Contrast("soft", "extra", "extra hard", "test_accuracy", "more",
                 when="soft answers are set against the teacher's first choices"),
    ),
    minutes=7,
)  # fmt: skip
def of_digits(seed: int) -> Outcome:
    """Does a small network learn more from a teacher's answers than from the labels?

    Data: ten digits; 100 labelled pictures for the student, 400 labelled others for the teacher,
    400 without labels. Arms: the teacher, eight times as wide as the student; the student alone, on
    its 100 labels; distilled, on the same 100 pictures from the teacher's soft answers, the labels
    unused; the same from an equally wide teacher that had the student's 100 labels only; from the
    student alone (self-distilled, one generation); distilled on the 100 and the 400 unlabelled
    pictures (extra); and on these from the teacher's first choices, taken as labels (extra hard).
    Temperature 4. Budget: every student begins with the same weights and has five learning rates,
    400 steps each, the best by 200 validation pictures; the teachers have one rate, 0.03, and 400
    steps. Measure: accuracy on 497 test pictures. Prediction of the claim: distilled, from the same
    labels, and from itself, the student has more than alone; extra more than distilled; soft more
    than hard.
    """
    draw = FIRST_DRAW + seed
    images, labels, (source, *parts) = shift.ten_digits(draw, per_class=10)
    task = digits.Task(*(digits.Part(images[each], labels[each]) for each in parts))
    own, both = task.train.images, torch.cat([task.train.images, images[source[400:]]])
    start = plain_network(SMALL, 3000 + draw)

    def teacher(part: digits.Part) -> nn.Sequential:
        wide = plain_network(LARGE, 7000 + draw)
        return digits.fit(wide, part, TEACHER_RATE, STEPS, seed=draw)

    def from_labels(part: digits.Part) -> digits.Score:
        other = digits.Task(part, task.val, task.test)
        return digits.tuned(lambda: copy.deepcopy(start), other, draw, RATES, steps=STEPS)

    large = teacher(digits.Part(images[source[:400]], labels[source[:400]]))
    peer, soft = teacher(task.train), distillation.answers(large, both)
    alone = from_labels(task.train)
    found = {
        "teacher": digits.score(large, task),
        "alone": alone,
        "distilled": taught(start, soft[: len(own)], own, task, draw),
        "same labels": taught(start, distillation.answers(peer, own), own, task, draw),
        "self-distilled": taught(start, distillation.answers(alone.model, own), own, task, draw),
        "extra": taught(start, soft, both, task, draw),
        "extra hard": from_labels(digits.Part(both, soft.argmax(1))),
    }
    return {arm: {"test_accuracy": each.test} for arm, each in found.items()}


@cache
def cifar10(split: str) -> data.ImageFolderDataset:
    """A split as Lite0 takes it, at 64 pixels; the files are looked through once a process."""
    see = backbones.preprocessing("efficientnet_lite0", size=hops.CIFAR_SIDE)
    return data.image_folder(folder("cifar10"), split=split, transform=see.eval)


def photographs(split: str, classes: range, n: int, seed: int) -> digits.Part:
    """Pictures of CIFAR-10, every class equally often: (N, 3, 64, 64), values -1 to 1."""
    whole = cifar10(split)
    rows = [i for i, target in enumerate(whole.targets) if target in classes]
    some = data.balanced_subset(data.LabelledSubset(whole, rows), n, seed)
    images = torch.stack([some[i][0] for i in range(n)])
    return digits.Part(images, torch.tensor(some.targets) - classes.start)


LABELLED, UNLABELLED, CHOICE, MEASURED = 500, 1500, 500, 1000
PHOTO_RATES, PHOTO_STEPS, PHOTO_BATCH = (0.01, 0.03, 0.1), 400, 32


def small_student(seed: int, classes: int = 10) -> nn.Sequential:
    """Three convolutions with BatchNorm for pictures of 32 pixels: 95 thousand numbers."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for before, after in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(after), nn.ReLU()]  # fmt: skip
        head = nn.Linear(128, classes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def linear_scores(train: digits.Part, val: digits.Part, rows: Tensor) -> Tensor:
    """Scores (N, K) of a logistic regression on features; its penalty is chosen on ``val``."""
    lines = [
        classifiers()["logistic_regression"].set_params(classify__C=1 / penalty).fit(
            train.images.numpy(), train.targets.numpy()
        )
        for penalty in hops.PENALTIES
    ]  # fmt: skip
    best = max(lines, key=lambda each: each.score(val.images.numpy(), val.targets.numpy()))
    return torch.tensor(best.decision_function(rows.numpy()), dtype=torch.float32)


@experiment(
    "distillation_photographs", seeds=5,
    arms=("teacher", "alone", "distilled", "extra", "extra hard"), measures=(ACCURACY,),
    contrasts=(
        Contrast("better", "distilled", "alone", "test_accuracy", "more",
                 when="the student sees its labelled pictures only"),
        Contrast("extra", "extra", "alone", "test_accuracy", "more",
                 when="unlabelled pictures are added"),
        Contrast("soft", "extra", "extra hard", "test_accuracy", "more",
                 when="soft answers are set against the teacher's first choices"),
    ),
    photographs="cifar10", minutes=7,
)  # fmt: skip
def of_photographs(seed: int) -> Outcome:
    """Does a small network learn photographs better from an ImageNet network's answers?

    Data: CIFAR-10 in a public copy as JPEG; 500 labelled pictures, 1,500 without labels, 500 to
    choose by, 1,000 of the test part to measure. Teacher: EfficientNet-Lite0 with ImageNet's
    weights, frozen, at 64 pixels, with a linear head on the 500 labels (four penalties, the best by
    validation). Student: three convolutions from scratch at 32 pixels. Arms: the student alone on
    the 500 labels; distilled on the same 500 pictures, the labels unused; on all 2,000 (extra); on
    these from the teacher's first choices, taken as labels (extra hard). Temperature 4. Budget: the
    same first weights, three learning rates, 400 steps of 32 pictures each, the best by
    validation. Prediction of the claim: distilled and extra have more than alone, soft more than
    hard.
    """
    draw = FIRST_DRAW + seed
    pool = photographs("train", range(10), LABELLED + UNLABELLED + CHOICE, draw)
    test = photographs("test", range(10), MEASURED, draw)
    by_class = [(pool.targets == each).nonzero()[:, 0] for each in range(10)]
    ends = (LABELLED // 10, (LABELLED + UNLABELLED) // 10)
    own, extra, held = (
        torch.cat([rows[low:high] for rows in by_class])
        for low, high in ((0, ends[0]), ends, (ends[1], None))
    )
    both = torch.cat([own, extra])
    body = hops.lite(10, draw)
    features = {name: hops.rows_of(body, part.images, "features")
                for name, part in (("pool", pool), ("test", test))}  # fmt: skip
    known, choice = (
        digits.Part(features["pool"][rows], pool.targets[rows]) for rows in (own, held)
    )
    soft = linear_scores(known, choice, torch.cat([features["pool"][both], features["test"]]))
    reached = float((soft[len(both) :].argmax(1) == test.targets).double().mean())

    def seen(part: digits.Part, rows: Tensor | slice = slice(None)) -> digits.Part:
        return digits.Part(F.avg_pool2d(part.images[rows], 2), part.targets[rows])

    task = digits.Task(seen(pool, own), seen(pool, held), seen(test))
    start, images = small_student(draw), seen(pool, both).images

    def student(scores: Tensor, targets: Tensor | None) -> dict[str, float]:
        """From soft answers, or from labels where there are some."""
        share = 0.0 if targets is None else 1.0
        tried = digits.best(
            digits.score(
                distillation.distil(
                    copy.deepcopy(start), scores, images[: len(scores)], targets,
                    temperature=TEMPERATURE, hard_share=share, rate=rate, steps=PHOTO_STEPS,
                    batch_size=PHOTO_BATCH, seed=draw,
                ),
                task,
            )
            for rate in PHOTO_RATES
        )  # fmt: skip
        return {"test_accuracy": tried.test}

    few, many = soft[: len(own)], soft[: len(both)]
    return {
        "teacher": {"test_accuracy": reached},
        "alone": student(few, task.train.targets),
        "distilled": student(few, None),
        "extra": student(many, None),
        "extra hard": student(many, many.argmax(1)),
    }
