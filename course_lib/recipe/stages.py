"""What the recipe is made of: heads on frozen features, stages, averages, and how they rank."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from course_lib import freezing
from course_lib.profile import seeded_generator
from course_lib.recipe.plan import Plan, Stage, body_blocks
from course_lib.training.batches import Data
from course_lib.training.errors import TrainingError
from course_lib.training.history import History
from course_lib.training.loop import finetune
from course_lib.training.staged import (
    depth_rates,
    hold_statistics,
    pull_to_start,
    warm_up_and_fall,
)

if TYPE_CHECKING:
    from course_lib.features import Features

FOLDS = 5
SCALES = torch.logspace(-2, 1, 31)  # factors by which scores are scaled before they are ranked
ABSENT = -20.0  # bias of a class without a training picture: it is never chosen


@dataclass(frozen=True)
class Candidate:
    """A network that may be kept: how it does on the validation pictures, and how to get it.

    Attributes:
        setting: in words, how it came about.
        logits: its scores (N, C).
        targets: the classes (N,).
        build: makes it; networks that aren't kept needn't be made.
    """

    setting: str
    logits: Tensor
    targets: Tensor
    build: Callable[[], nn.Module]

    def named(self, before: str) -> "Candidate":
        """The same with words put before its setting."""
        return replace(self, setting=before + self.setting)

    @cached_property
    def rank(self) -> tuple[float, float]:
        """Larger is better: accuracy; of equal ones, the smaller loss after scaling."""
        right = (self.logits.argmax(dim=1) == self.targets).double().mean()
        return float(right), -scaled_loss(self.logits, self.targets)


def scaled_loss(logits: Tensor, targets: Tensor) -> float:
    """Cross-entropy of scores that were all multiplied by the factor that suits them best.

    So a network that is right as often as another, but too sure of itself, isn't ranked below it.
    The factor is known as temperature: C. Guo et al.: On Calibration of Modern Neural Networks,
    ICML 2017, arXiv:1706.04599.

    Args:
        logits: scores (N, C).
        targets: classes (N,).
    """
    return min(float(F.cross_entropy(logits * scale, targets)) for scale in SCALES)


def separated(rows: "Features", penalty: float = 0.1) -> float:
    """Share of rows that a linear layer gets right when it hasn't seen them: cross-validation.

    Args:
        rows: features (N, D).
        penalty: strength of the L2 penalty.

    Returns:
        A number between 0 and 1; nan if a class has only one row.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = rows.arrays()
    folds = min(FOLDS, int(torch.bincount(rows.targets)[rows.targets.unique()].min()))
    if folds < 2:
        return math.nan
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(_classifier(penalty), x, y, cv=splits).mean())


def linear_heads(
    rows: "Features", classes: int, penalties: Iterable[float]
) -> list[tuple[float, nn.Linear]]:
    """Linear heads trained to the optimum on features, one for each penalty.

    Each feature is scaled to mean 0 and variance 1 for the training; the scaling is then worked
    into the weights, so that the head takes the features as they are.

    Args:
        rows: features (N, D) to train on.
        classes: outputs.
        penalties: strengths of the L2 penalty, relative to one picture's loss.

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
    made = []
    for penalty in penalties:
        fitted = _classifier(penalty).fit(x, y)
        made.append((penalty, _as_layer(fitted, present, classes)))
    return made


def _classifier(penalty: float) -> Any:
    """Scaling and multinomial logistic regression, as a scikit-learn pipeline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=2000))


@torch.no_grad()
def _as_layer(fitted: Any, present: Sequence[int], classes: int) -> nn.Linear:
    """The pipeline as one linear layer on the unscaled features."""
    scale, regression = fitted[0], fitted[1]
    weight = torch.tensor(regression.coef_ / scale.scale_)
    bias = torch.tensor(regression.intercept_) - weight @ torch.tensor(scale.mean_)
    if (
        len(weight) == 1
    ):  # two classes: scikit-learn keeps one row, for the second against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    layer = nn.Linear(weight.shape[1], classes)
    layer.weight.zero_()
    layer.bias.fill_(ABSENT)
    layer.weight[list(present)] = weight.float()
    layer.bias[list(present)] = bias.float()
    return layer


def run_stage(
    model: nn.Module,
    stage: Stage,
    rate: float,
    plan: Plan,
    head: str,
    train: Data,
    val: Data,
    *,
    seed: int,
    device: torch.device,
    progress: bool | None,
) -> tuple[nn.Module, History]:
    """One trial: a copy of the model, trained as the stage says.

    Returns:
        The copy, with the weights of its best epoch and nothing frozen, and the history.
    """
    trial = copy.deepcopy(model)
    loose = [name for name, _ in trial.named_parameters(recurse=False)]  # such as a class token
    rest = [each for each in (*body_blocks(trial, head), *loose) if each not in stage.thaw]
    if rest:
        freezing.freeze(trial, rest)
    held = hold_statistics(trial) if plan.hold_statistics else []
    rates = depth_rates(stage.thaw, rate, stage.depth_factor) | {head: rate}
    groups = _groups(trial, rates)
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=plan.momentum)
    release = pull_to_start(optimizer, plan.pull) if plan.pull else None
    curve = warm_up_and_fall(plan.warm_up, stage.epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # thawing for good, with no optimizer left
        history = finetune(
            trial, train, val=val, epochs=stage.epochs, optimizer=optimizer,
            scheduler=lambda each: LambdaLR(each, curve), patience=plan.patience,
            batch_size=plan.batch_size if isinstance(train, Dataset) else None,
            device=device, seed=seed, progress=progress,
        )  # fmt: skip
        if release:
            release()
        if rest or held:
            freezing.unfreeze(trial, [*rest, *held])
    return trial, history


@torch.no_grad()
def between(start: nn.Module, end: nn.Module, share: float) -> nn.Module:
    """A network whose weights lie on the way from one to the other: 0 is the start, 1 the end.

    Averages of two networks work as networks if one was trained from the other (M. Wortsman et
    al.: Robust fine-tuning of zero-shot models, CVPR 2022, arXiv:2109.01903). Whole numbers, such
    as BatchNorm's count of batches, are the end's.
    """
    made = copy.deepcopy(end)
    first, last = (_tensors(each) for each in (start, end))
    for name, tensor in _tensors(made).items():
        if tensor.is_floating_point():
            tensor.copy_(torch.lerp(first[name], last[name], share))
    return made


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _groups(model: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """One parameter group for each part that trains; shared parameters go to the first."""
    groups, seen = [], set()
    for name, rate in rates.items():
        params = [each for each in model.get_submodule(name).parameters() if each.requires_grad]
        params = [each for each in params if id(each) not in seen]
        seen |= {id(each) for each in params}
        if params:
            groups.append({"params": params, "lr": rate, "name": name})
    return groups


def stacked(part: Dataset[Any]) -> tuple[Tensor, Tensor]:
    """All pictures (N, ...) and class numbers (N,) of a data set.

    Raises:
        TrainingError: the pictures differ in size.
    """
    items = [part[place] for place in range(len(part))]  # type: ignore[arg-type]
    shapes = {tuple(image.shape) for image, _ in items}
    if len(shapes) > 1:
        raise TrainingError(
            f"The pictures differ in size: {', '.join(map(str, sorted(shapes)))}. Let the data "
            "set's transform bring them to one."
        )
    return torch.stack([image for image, _ in items]), torch.tensor([int(y) for _, y in items])


class Shuffled:
    """Batches of pictures that are in memory, in a new order at every pass.

    The loader for data sets prepares picture by picture; for small pictures that takes longer than
    training on them.

    Args:
        images: (N, ...).
        targets: (N,).
        batch_size: the last batch may be smaller; if it were a single picture, it is added to the
            one before it, as BatchNorm can't train on one.
    """

    def __init__(self, images: Tensor, targets: Tensor, batch_size: int) -> None:
        self.images, self.targets, self.batch_size = images, targets, batch_size
        self.generator = seeded_generator(0)  # finetune starts it from its own seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.targets), generator=self.generator)
        parts = list(order.split(self.batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        for rows in parts:
            yield self.images[rows], self.targets[rows]
