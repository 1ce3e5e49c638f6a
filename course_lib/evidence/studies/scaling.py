"""Features scaled one by one, or all by one number: which head is better with few pictures?

Common to both: features of EfficientNet-Lite0 as ImageNet left it, at 224 pixels; logistic
regression, its penalty one of six by cross-validated log-loss; 6, 12 or 50 training pictures of
each class. Looked at on draws 0 to 7; results are from draws 20 on.
"""

from functools import cache

import torch
from sklearn.base import TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from course_lib import backbones, data, features
from course_lib.data.manifest import bundled_folder
from course_lib.evidence.design import Contrast, Measure, Outcome, experiment
from course_lib.evidence.photographs import food
from course_lib.evidence.studies.pictures import FILES, NETWORK, Rows, drawn, network
from course_lib.recipe.heads import OneScale
from course_lib.recipe.plan import PENALTIES

FIRST_DRAW, SIZE = 20, 224
AMOUNTS = {"few": 6, "some": 12, "more": 50}  # pictures a class
ARMS = tuple(f"{way} {n}" for n in AMOUNTS.values() for way in ("each", "one"))
ACCURACY, LOSS = Measure("test_accuracy", digits=3), Measure("log_loss", digits=2)
CONTRASTS = (
    *(Contrast(name, f"one {n}", f"each {n}", "test_accuracy", "more",
               when=f"accuracy counts, {n} a class") for name, n in AMOUNTS.items()),
    *(Contrast(f"{name}_loss", f"one {n}", f"each {n}", "log_loss", "less",
               when=f"log-loss counts, {n} a class") for name, n in AMOUNTS.items()),
)  # fmt: skip


def head(scale: TransformerMixin, train: Rows, test: Rows) -> dict[str, float]:
    """Accuracy and log-loss on the test part."""
    tried = GridSearchCV(
        make_pipeline(scale, LogisticRegression(max_iter=2000)),
        {"logisticregression__C": [1 / each for each in PENALTIES]},
        scoring="neg_log_loss", cv=5,
    )  # fmt: skip
    found = tried.fit(*train.arrays()).best_estimator_
    x, y = test.arrays()
    return {
        "test_accuracy": float(found.score(x, y)),
        "log_loss": float(log_loss(y, found.predict_proba(x))),
    }


def all_arms(train: Rows, test: Rows, draw: int) -> Outcome:
    """Both ways at each amount; the smaller samples are parts of the larger."""
    found = {}
    for n in AMOUNTS.values():
        some = train.subset(drawn(draw, torch.as_tensor(train.targets), 2 * n))
        found[f"each {n}"] = head(StandardScaler(), some, test)
        found[f"one {n}"] = head(OneScale(), some, test)
    return found


@cache
def rows(split: str, photographs: bool) -> Rows:
    """Features of a split, kept on disk."""
    see = backbones.preprocessing(NETWORK, SIZE).eval
    pictures = food(split, SIZE) if photographs else data.hotdog(bundled_folder(), split, see)
    return features.extract(network(), pictures, batch_size=16, progress=False)


@experiment(
    "scaling", seeds=26, arms=ARMS, measures=(ACCURACY, LOSS), contrasts=CONTRASTS, files=FILES,
    minutes=1.5,
)  # fmt: skip
def on_drawn_pictures(seed: int) -> Outcome:
    """Does one number for all features make a better head than one for each? On drawn pictures.

    Data: 6, 12 or 50 of the bundled drawn pictures of each class, drawn by the seed; the 96 test
    pictures, always the same. Arms at each amount: every feature divided by its own deviation
    (each); all by the root of their mean variance (one). Budget: six penalties, by cross-validated
    log-loss. Measures: test accuracy; log-loss on the test pictures, nothing calibrated. Prediction
    of the claim: one number has more accuracy and less log-loss at each amount.
    """
    return all_arms(rows("train", False), rows("test", False), FIRST_DRAW + seed)


@experiment(
    "scaling_photographs", seeds=10, arms=ARMS, measures=(ACCURACY, LOSS), contrasts=CONTRASTS,
    photographs="food_photographs", minutes=2,
)  # fmt: skip
def on_photographs(seed: int) -> Outcome:
    """Does one number for all features make a better head than one for each? On photographs.

    Data: 6, 12 or 50 photographs of food of each class, drawn by the seed from 474; 400 test
    photographs, always the same. Arms, budget, measures and prediction as for the drawn pictures.
    Prediction of the claim: one number has more accuracy and less log-loss at each amount.
    """
    return all_arms(rows("train", True), rows("test", True), FIRST_DRAW + seed)
