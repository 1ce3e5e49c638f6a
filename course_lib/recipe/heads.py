"""Linear heads on frozen features, trained to the optimum."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from course_lib.features import Features
from course_lib.training.errors import TrainingError

ABSENT = -20.0  # bias of a class without a training picture: it is never chosen


def linear_heads(
    rows: Features, classes: int, penalties: Iterable[float]
) -> list[tuple[float, nn.Linear]]:
    """Linear heads trained to the optimum on features, one for each penalty.

    Each feature is scaled to mean 0 and variance 1 for the training; the scaling is then worked
    into the weights, so that the head takes the features as they are.

    Args:
        rows: features (N, D) to train on.
        classes: outputs.
        penalties: strengths of the L2 penalty, relative to one picture's loss.

    Returns:
        Pairs of a penalty and its head, from (N, D) to (N, classes).

    Raises:
        TrainingError: fewer than two classes, or a class number that is too large.
    """
    present = rows.targets.unique().tolist()
    if len(present) < 2 or max(present) >= classes:
        raise TrainingError(
            f"The training pictures are of the classes {present}; expected two or more, numbered "
            f"from 0 to {classes - 1}."
        )
    x, y = rows.arrays()
    return [
        (penalty, _as_layer(classifier(penalty).fit(x, y), present, classes))
        for penalty in penalties
    ]


def classifier(penalty: float) -> Pipeline:
    """Scaling and multinomial logistic regression, as a scikit-learn pipeline."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=2000))


@torch.no_grad()
def _as_layer(fitted: Any, present: Sequence[int], classes: int) -> nn.Linear:
    """The pipeline as one linear layer on the unscaled features."""
    scale, regression = fitted[0], fitted[1]
    weight = torch.tensor(regression.coef_ / scale.scale_)
    bias = torch.tensor(regression.intercept_) - weight @ torch.tensor(scale.mean_)
    if len(weight) == 1:  # of two classes scikit-learn keeps one row: the second against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    layer = nn.Linear(weight.shape[1], classes)
    layer.weight.zero_()
    layer.bias.fill_(ABSENT)
    layer.weight[list(present)] = weight.float()
    layer.bias[list(present)] = bias.float()
    return layer
