"""Larger pictures, or a trained body? Accuracy against work, on photographs and drawn pictures.

Common to both: EfficientNet-Lite0 with ImageNet's weights. A linear head is logistic regression on
frozen features, its penalty chosen from five by cross-validation on the training pictures; the body
is trained with a new head, four epochs of Adam in batches of 10 at each of three rates, the rate by
validation pictures. Work is what one picture's way costs, times the pictures that take it; back
counts twice. Designed on draw 0; results are from draws 20 on.
"""

import copy
from functools import cache

import torch
from sklearn.model_selection import GridSearchCV
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from course_lib import backbones, data, features, training
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import food
from course_lib.evidence.studies.pictures import FILES, NETWORK, drawn, in_memory, network
from course_lib.paths import data_dir

FIRST_DRAW = 20
SIZES = (96, 160, 224)
SMALL = SIZES[0]
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strengths
RATES, EPOCHS, BATCH = (0.0003, 0.001, 0.003), 4, 10
LEARNED, CHOSEN_BY = 100, 40
ARMS = (*(f"head {size}" for size in SIZES), f"body {SMALL}")
ACCURACY, WORK = Measure("test_accuracy", digits=3), Measure("work", digits=0)


def contrasts() -> tuple[Contrast, ...]:
    """A larger picture against a smaller one, and against a trained body."""
    return (
        Contrast("larger", "head 160", "head 96", "test_accuracy", "more",
                 when="160 pixels are set against 96"),
        Contrast("largest", "head 224", "head 160", "test_accuracy", "more",
                 when="224 pixels are set against 160"),
        Contrast("body", "head 224", "body 96", "test_accuracy", "more",
                 when="accuracy counts, against a body trained at 96 pixels"),
        Contrast("work", "head 224", "body 96", "work", "less", ratio=True,
                 when="work counts, against a body trained at 96 pixels"),
    )  # fmt: skip


@cache
def work(size: int) -> float:
    """Billions of additions and multiplications for one picture's way through the network."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network()(torch.zeros(1, 3, size, size))
    return counted.get_total_flops() / 1e9


def head(train: features.Features, test: features.Features) -> float:
    """Test accuracy of a linear head."""
    tried = GridSearchCV(
        features.classifiers()["logistic_regression"], {"classify__C": PENALTIES},
        scoring="neg_log_loss", cv=5,
    )  # fmt: skip
    return float(tried.fit(*train.arrays()).best_estimator_.score(*test.arrays()))


def body(train: TensorDataset, val: TensorDataset, test: TensorDataset, seed: int) -> float:
    """Test accuracy after all layers were trained from a new head."""
    found = []
    for rate in RATES:
        model = backbones.replace_head(copy.deepcopy(network()), 2, seed=seed)
        training.finetune(
            model, train, epochs=EPOCHS, optimizer=torch.optim.Adam(model.parameters(), lr=rate),
            batch_size=BATCH, device="cpu", amp=False, seed=seed, progress=False,
        )  # fmt: skip
        found.append((training.evaluate(model, val).loss, training.evaluate(model, test).accuracy))
    return min(found)[1]


def all_arms(splits: dict[int, dict[str, data.ImageFolderDataset]], seed: int) -> Outcome:
    """All arms on 100 training pictures, half of each class; size -> split -> pictures."""
    chosen = {
        split: drawn(seed, torch.tensor(splits[SMALL][split].targets), n)
        for split, n in (("train", LEARNED), ("val", CHOSEN_BY))
    }
    found = {}
    for size, of in splits.items():
        rows = {s: features.extract(network(), of[s], batch_size=16, progress=False)
                for s in ("train", "test")}  # fmt: skip
        found[f"head {size}"] = {
            "test_accuracy": head(rows["train"].subset(chosen["train"]), rows["test"]),
            "work": LEARNED * work(size),
        }
    small = {s: in_memory(each, chosen.get(s)) for s, each in splits[SMALL].items()}
    found[f"body {SMALL}"] = {
        "test_accuracy": body(small["train"], small["val"], small["test"], seed),
        "work": len(RATES) * (3 * EPOCHS * LEARNED + CHOSEN_BY) * work(SMALL),
    }
    return found


@experiment(
    "picture_size", seeds=12, arms=ARMS, measures=(ACCURACY, WORK), contrasts=contrasts(),
    files=FILES, minutes=10,
)  # fmt: skip
def on_drawn_pictures(seed: int) -> Outcome:
    """Is a larger picture under a linear head worth more than a trained body? On drawn pictures.

    Data: 100 of the bundled drawn pictures, half of them hot dogs, drawn by the seed; the 96 test
    pictures, always the same. Arms: a linear head on frozen features at 96, 160 and 224 pixels; all
    layers trained at 96 pixels, with 40 validation pictures to choose the rate. Measures: test
    accuracy; and billions of operations, tuning included. Prediction of the claim: 160 pixels beat
    96 and 224 beat 160; the head at 224 beats the body trained at 96, with less work.
    """
    folder = data_dir() / "hotdog_rendered"
    splits = {
        size: {
            split: data.hotdog(folder, split, backbones.preprocessing(NETWORK, size).eval)
            for split in ("train", "val", "test")
        }
        for size in SIZES
    }
    return all_arms(splits, FIRST_DRAW + seed)


@experiment(
    "size_photographs", seeds=5, arms=ARMS, measures=(ACCURACY, WORK), contrasts=contrasts(),
    photographs="food_photographs", minutes=6,
)  # fmt: skip
def on_photographs(seed: int) -> Outcome:
    """Is a larger picture under a linear head worth more than a trained body? On photographs.

    Data: 100 photographs of food, half of them hot dogs, drawn by the seed from 474; 400 test
    photographs, always the same. Arms and measures as for the drawn pictures. Prediction of the
    claim: 160 pixels beat 96 and 224 beat 160; the head at 224 beats the body trained at 96, with
    less work.
    """
    splits = {
        size: {split: food(split, size) for split in ("train", "val", "test")} for size in SIZES
    }
    return all_arms(splits, FIRST_DRAW + seed)
