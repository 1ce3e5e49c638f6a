"""Classes of unequal size: what weights change, on drawn pictures and on photographs.

Common to both: features of EfficientNet-Lite0 as ImageNet left it, logistic regression with
scikit-learn's usual penalty, and a test part in which the classes are of equal size. Designed on
draws 0 to 2; results are from draws 20 on.
"""

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.metrics import recall_score

from course_lib import features
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import food
from course_lib.evidence.studies.pictures import FILES, Rows, network, rows
from course_lib.profile import seeded_generator

FIRST_DRAW = 20
FEW, OTHERS = (8, 20), 90
SIZE = 224  # of the photographs, in pixels
ARMS = tuple(f"{way} {n}" for n in FEW for way in ("plain", "balanced"))
BALANCED = Measure("balanced_accuracy", digits=3)
RECALL = Measure("hotdog_recall", digits=3)


def contrasts() -> tuple[Contrast, ...]:
    """Balanced against plain at each amount."""
    return tuple(
        Contrast(name, f"balanced {n}", f"plain {n}", measure, "more", when=f"{words} {n} to 90")
        for n, word in zip(FEW, ("few", "some"), strict=True)
        for name, measure, words in (
            (word, "balanced_accuracy", "balanced accuracy counts,"),
            (f"{word}_recall", "hotdog_recall", "the small class counts,"),
        )
    )


def arms_of(train: Rows, test: Rows, draw: int) -> dict[str, dict[str, float]]:
    """Both ways at both amounts; class 0 is the hot dog."""
    x, y = test.arrays()
    found = {}
    for n, chosen in drawn(train.targets, draw):
        for way, weight in (("plain", None), ("balanced", "balanced")):
            line = features.classifiers()["logistic_regression"]
            line.set_params(classify__class_weight=weight)
            guessed = line.fit(*train.subset(chosen).arrays()).predict(x)
            recalls = recall_score(y, guessed, average=None)
            found[f"{way} {n}"] = {
                "balanced_accuracy": float(np.mean(recalls)), "hotdog_recall": float(recalls[0]),
            }  # fmt: skip
    return found


def drawn(targets: torch.Tensor, draw: int) -> Iterator[tuple[int, list[int]]]:
    """How many hot dogs, and the places of these and of 90 others; the few are among the more."""
    order = torch.randperm(len(targets), generator=seeded_generator(draw))
    first, second = (order[targets[order] == each].tolist() for each in (0, 1))
    for n in FEW:
        yield n, sorted(first[:n] + second[:OTHERS])


@experiment(
    "unequal_classes", seeds=10, arms=ARMS, measures=(BALANCED, RECALL), contrasts=contrasts(),
    files=FILES, minutes=0.5,
)  # fmt: skip
def on_drawn_pictures(seed: int) -> Outcome:
    """Do class weights help when one class is small? On the bundled drawn pictures.

    Data: 8 or 20 hot dogs and 90 other pictures, drawn by the seed, at 96 pixels; 96 test pictures,
    half of them hot dogs, always the same. Arms: every picture counts the same (plain); every class
    does (class_weight="balanced"). Budget: none is tuned. Measures: balanced accuracy, the mean of
    the two classes' recalls; and the recall of the hot dogs. Prediction of the claim: the weights
    raise both, at both amounts.
    """
    return arms_of(rows("train"), rows("test"), FIRST_DRAW + seed)


def photographed(split: str, size: int = SIZE) -> Rows:
    """Features of the photographs, kept on disk."""
    return features.extract(network(), food(split, size), batch_size=16, progress=False)


@experiment(
    "unequal_photographs", seeds=10, arms=ARMS, measures=(BALANCED, RECALL),
    contrasts=contrasts(), photographs="food_photographs", minutes=2,
)  # fmt: skip
def on_photographs(seed: int) -> Outcome:
    """Do class weights help when one class is small? On photographs.

    Data: photographs of food at 224 pixels, 8 or 20 hot dogs and 90 others drawn by the seed from
    474; 400 test photographs, half of them hot dogs, always the same. Arms, budget and measures as
    for the drawn pictures. Prediction of the claim: the weights raise both, at both amounts.
    """
    return arms_of(photographed("train"), photographed("test"), FIRST_DRAW + seed)
