"""How a loss adds up over a batch: found out by calling it, not read from an attribute.

``partial(F.cross_entropy, reduction="sum")`` and a module of your own have no attribute to read,
and a mean weighed by class is neither a sum nor the mean over the examples.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.errors import CourseError
from course_lib.training.errors import TrainingError
from course_lib.training.memory import is_shortage
from course_lib.training.metrics import said

Loss = Callable[[Tensor, Tensor], Tensor]


def check_loss(loss: object) -> None:
    """Refuse what can't be called as a loss.

    Raises:
        TrainingError: it is such.
    """
    if isinstance(loss, type):
        raise TrainingError(f"loss is a class; expected one made from it: {loss.__name__}().")
    if not callable(loss):
        raise TrainingError(
            f"loss must be a function of (scores, targets); got {loss!r}. For instance "
            "torch.nn.CrossEntropyLoss()."
        )


def value_of(loss: Loss, logits: Tensor, targets: Tensor, first: bool = False) -> Tensor:
    """What a loss gives for a batch: one number (), or one an example (B,).

    Args:
        loss: the loss.
        logits: scores (B, C).
        targets: class numbers (B,).
        first: whether it is a run's first batch, where torch's warning about shapes that don't
            fit each other counts as an error.

    Raises:
        TrainingError: it can't take these, or gives something else.
    """
    try:
        if first:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Using a target size")
                value = loss(logits, targets)
        else:
            value = loss(logits, targets)
    except CourseError:
        raise
    except (IndexError, RuntimeError, TypeError, UserWarning, ValueError) as error:
        if is_shortage(error):
            raise
        raise TrainingError(
            f"The loss can't take scores of {said(logits)} and class numbers of {said(targets)}: "
            f"{error}. It is called as loss(scores, targets). For classes there is "
            "torch.nn.CrossEntropyLoss(); weights of classes must be one for each score, on the "
            "model's device."
        ) from error
    if not isinstance(value, Tensor) or value.shape not in ((), targets.shape):
        raise TrainingError(
            "The loss must be one number for the batch, as a tensor, or one an example; got "
            f"{said(value)}."
        )
    return value


def total_loss(
    loss: Loss, parts: Sequence[float], logits: Sequence[Tensor], targets: Sequence[Tensor]
) -> float:
    """The sum over the examples of all batches, so that divided by N it is the mean.

    The loss is called on all of them at once and compared with its parts. If it is neither their
    sum nor their mean, as with class weights, its value on all of them counts, which doesn't hang
    on how they were cut into batches.

    Args:
        loss: of scores (B, C) and targets (B,).
        parts: what it gave for each batch, as one number; the sum over (B,) for one that gives a
            number an example.
        logits: scores (B, C) of each batch.
        targets: class numbers (B,) of each batch.
    """
    sizes = [len(each) for each in targets]
    every, truth = torch.cat(list(logits)), torch.cat(list(targets))
    n = len(truth)
    with torch.no_grad():
        value = loss(every, truth)
        if value.ndim:  # a number an example
            return float(sum(parts))
        whole = float(value)
        if sum(size > 0 for size in sizes) > 1:
            cut = list(parts)
        else:  # one batch: cut it in two; one example: double it
            if n == 1:
                every, truth = every.repeat(2, 1), truth.repeat(2)
                whole = float(loss(every, truth))
            sizes = [len(truth) // 2, len(truth) - len(truth) // 2]
            pairs = zip(every.split(sizes), truth.split(sizes), strict=True)
            cut = [float(loss(*pair)) for pair in pairs]
    means = sum(part * size for part, size in zip(cut, sizes, strict=True) if size)
    added = sum(part for part, size in zip(cut, sizes, strict=True) if size)
    count = sum(sizes)
    near = 1e-4 if every.dtype in (torch.float32, torch.float64) else 0.02
    if _close(whole, means / count, near):
        return means * n / count
    if _close(whole, added, near):
        return added * n / count
    return whole * n


def _close(first: float, second: float, near: float) -> bool:
    return abs(first - second) <= near * max(abs(first), abs(second)) + 1e-12
