"""Linear heads on frozen features, trained to the optimum and tried on features not seen."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from course_lib import backbones, features
from course_lib.backbones.heads import install, like
from course_lib.features import Features
from course_lib.recipe.answers import Answers, weights_for
from course_lib.text import counted, few
from course_lib.training.errors import TrainingError

ClassWeight: TypeAlias = Literal["balanced"] | None

ABSENT = -20.0  # bias of a class without a training picture: it is never chosen
ABOVE_ZERO = 1000.0  # see head_into
FOLDS = 5
MANY, FEWER_FOLDS = 2000, 3  # with more pictures than this, fewer folds tell as much


def linear_heads(
    rows: Features, classes: int, penalties: Iterable[float], class_weight: ClassWeight = "balanced"
) -> list[tuple[float, nn.Linear]]:
    """Linear heads trained to the optimum on features, one for each penalty.

    The features are scaled for the training (see :class:`OneScale`); the scaling is then worked
    into the weights, so that the head takes the features as they are.

    Args:
        rows: features (N, D) to train on.
        classes: outputs.
        penalties: strengths of the L2 penalty, relative to one picture's loss.
        class_weight: ``"balanced"``: every class counts the same, however many pictures it has.

    Returns:
        Pairs of a penalty and its head, from (N, D) to (N, classes).

    Raises:
        TrainingError: fewer than two classes, or a class number that is too large.
    """
    present = rows.targets.unique().tolist()
    if len(present) < 2 or max(present) >= classes:
        raise TrainingError(
            f"The training pictures are of the classes {few(present)}; expected two or more, "
            f"numbered from 0 to {classes - 1}."
        )
    x, y = rows.arrays()
    with threadpool_limits(1):  # the same bits everywhere; and more threads don't help
        return [
            (penalty, _as_layer(classifier(penalty, class_weight).fit(x, y), present, classes))
            for penalty in penalties
        ]


class OneScale(StandardScaler):
    """Every feature to mean 0, and all of them divided by one number: their mean variance is 1.

    Scaled one by one, a channel that hardly fires on a few training pictures is blown up, and the
    first new picture on which it does gets a score beyond all others. Measured in the ledger:
    ``course evidence show scaling scaling_photographs``.
    """

    def fit(self, x: Any, y: Any = None, sample_weight: Any = None) -> "OneScale":
        """Learn the means and the one number from features (N, D)."""
        super().fit(x, y, sample_weight)
        self.scale_ = np.full_like(self.var_, np.sqrt(self.var_.mean()) or 1.0)
        return self


def classifier(penalty: float, class_weight: ClassWeight = "balanced") -> Pipeline:
    """Scaling and multinomial logistic regression, as a scikit-learn pipeline."""
    regression = LogisticRegression(C=1 / penalty, class_weight=class_weight, max_iter=2000)
    return make_pipeline(OneScale(), regression)


def cross_validated(
    rows: Features,
    classes: int,
    penalties: Iterable[float],
    class_weight: ClassWeight,
    groups: Sequence[int] | None = None,
) -> dict[float, Answers]:
    """What heads say about each picture when they were fitted without it, for each penalty.

    A class of one picture is never among those that its head was fitted on, so that picture counts
    as wrong.

    Args:
        rows: features (N, D).
        classes: outputs.
        penalties: as for :func:`linear_heads`.
        class_weight: likewise; it also weights the answers.
        groups: (N,) numbers that are equal for copies of a picture: they are left out together.
    """
    penalties = tuple(penalties)
    logits = {each: torch.full((len(rows), classes), ABSENT) for each in penalties}
    for fit_on, left_out in folds(rows, FOLDS if len(rows) <= MANY else FEWER_FOLDS, groups):
        for penalty, head in linear_heads(rows.subset(fit_on), classes, penalties, class_weight):
            logits[penalty][left_out] = head(rows.values[left_out]).detach()
    weights = weights_for(rows.targets, class_weight)
    return {each: Answers(found, rows.targets, weights) for each, found in logits.items()}


def folds(
    rows: Features, count: int, groups: Sequence[int] | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows to fit on and rows left out, so that each is left out once; classes in proportion.

    Args:
        rows: features (N, D).
        count: folds; fewer, if a class has fewer pictures.
        groups: as for :func:`cross_validated`.

    Raises:
        TrainingError: leaving out any row leaves fewer than two classes.
    """
    x, y = rows.arrays()
    group = np.arange(len(y)) if groups is None else np.asarray(groups)
    different = [len(np.unique(group[y == each])) for each in np.unique(y)]
    if len(different) < 2 or len(np.unique(group)) < 3:
        raise TrainingError(
            f"There are {counted(len(y), 'picture')} to learn from, "
            f"{len(np.unique(group))} of them different, in "
            f"{counted(len(different), 'class', 'classes')}. To try a head on pictures that it "
            "hasn't seen takes two classes and three different pictures; for a number that means "
            "something, ten of each class. Add pictures."
        )
    kind = StratifiedKFold if len(np.unique(group)) == len(y) else StratifiedGroupKFold
    splitter = kind(min(count, max(2, min(different))), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class smaller than the number of folds
        for fit_on, left_out in splitter.split(x, y, group):
            if len(np.unique(y[fit_on])) > 1:
                yield torch.from_numpy(fit_on), torch.from_numpy(left_out)


@torch.no_grad()
def head_into(model: nn.Module, layer: nn.Linear, name: str) -> nn.Module:
    """Give a network a linear head, in place, whatever kind of head it has.

    A convolution of 1 x 1 that is averaged over the places, as SqueezeNet's, computes the same as a
    linear layer on averaged features. What it gives is cut off at zero on the way, though; so a
    constant is added to all its scores, which changes no probability.

    Args:
        model: the network.
        layer: the head; it is left alone.
        name: dotted name of the model's head.

    Returns:
        The same model.

    Raises:
        HeadError: the model's head takes another number of features.
    """
    old = model.get_submodule(name)
    if not isinstance(old, nn.Conv2d):
        return features.head_into(model, layer, name)
    if old.in_channels != layer.in_features or old.kernel_size != (1, 1):
        raise backbones.HeadError(
            f"The head {name!r} is a convolution of {old.kernel_size} over {old.in_channels} maps; "
            f"expected one of (1, 1) over {layer.in_features}."
        )
    new = like(old, layer.out_features)
    new.weight.copy_(layer.weight[:, :, None, None])
    if new.bias is None:
        new.register_parameter("bias", nn.Parameter(new.weight.new_empty(layer.out_features)))
    assert new.bias is not None
    new.bias.copy_(layer.bias + ABOVE_ZERO)
    install(model, {name: new})
    return model


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
