"""How many predictions are right, and which classes are taken for which."""

import torch
from torch import Tensor

from course_lib.training.errors import TrainingError


def accuracy(logits: Tensor, targets: Tensor) -> float:
    """The share of examples whose highest score is the right class (micro-averaged).

    Every example counts the same. Averaging the accuracies of *batches* instead gives the
    examples of a small last batch more weight than the others.

    Args:
        logits: scores (N, C).
        targets: class numbers (N,).

    Returns:
        A number between 0 and 1.

    Raises:
        TrainingError: there are no examples, or the shapes don't fit.
    """
    check_outputs(logits, targets)
    if len(targets) == 0:
        raise TrainingError("The accuracy of no examples is not defined; give at least one.")
    return count_correct(logits, targets).item() / len(targets)


def count_correct(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of the batch are right, () int64, still on the batch's device."""
    return (logits.argmax(dim=1) == targets).sum()


def confusion_matrix(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Counts of (true class, predicted class).

    Args:
        predicted: class numbers (N,).
        targets: class numbers (N,).
        num_classes: C.

    Returns:
        (C, C) int64: row i, column j counts the examples of class i that were taken for class j.
        The diagonal holds those that are right; a class that doesn't occur has a row of zeros.
    """
    cells = targets.cpu() * num_classes + predicted.cpu()  # each pair as one number
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def said(value: object) -> str:
    """A tensor's shape (...), or what it is instead, for an error."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def check_outputs(logits: object, targets: object) -> None:
    """Refuse outputs and targets that don't fit each other, before a loss makes a riddle of it.

    On a GPU a class number outside the head ends the whole process with "device-side assert";
    targets are looked at where the loader left them, in the computer's own memory.

    Raises:
        TrainingError: the outputs are not (B, C); the targets are not B class numbers below C.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise TrainingError(
            f"The model's output must be scores of shape (batch, classes); got {said(logits)}. Let "
            "forward() return the logits alone, flattened to two dimensions."
        )
    if not isinstance(targets, Tensor) or targets.ndim != 1 or targets.dtype != torch.int64:
        kind = f"{targets.dtype} of " if isinstance(targets, Tensor) else ""
        raise TrainingError(
            "The targets must be class numbers: a tensor of torch.int64 of shape (batch,); got "
            f"{kind}{said(targets)}. {_for_targets(targets)}"
        )
    if targets.shape[0] != logits.shape[0]:  # len() of a tensor takes four times as long
        raise TrainingError(
            f"The model gave {len(logits)} rows of scores for {len(targets)} targets; expected "
            "one row an example. Look at the first dimension in forward()."
        )
    numbers = targets.tolist()  # of a batch, faster than two reductions and their results
    if numbers:
        lowest, highest = min(numbers), max(numbers)
        if lowest < 0 or highest >= logits.shape[1]:
            raise TrainingError(
                f"The targets hold classes {lowest} to {highest}, but the model scores "
                f"{logits.shape[1]} classes (0 to {logits.shape[1] - 1}). "
                + _for_numbers(lowest, highest, logits.shape[1])
            )


def _for_numbers(lowest: int, highest: int, classes: int) -> str:
    """The next step for class numbers outside the head."""
    if lowest >= 0:
        return f"Give the model a head with at least {highest + 1} outputs, or number from 0."
    step = (
        f"{lowest} is no class: it usually marks examples without a label. Leave those out of the "
        "data set, or number the classes from 0."
    )
    if highest >= classes:
        step += f" For the others the head needs at least {highest + 1} outputs."
    return step


def _for_targets(targets: object) -> str:
    """The next step for targets that are no class numbers."""
    if isinstance(targets, list | tuple) and any(isinstance(each, str) for each in targets):
        return "They are names: let the data set give classes.index(name), a number for each class."
    if not isinstance(targets, Tensor):
        return "Let the data set give a whole number for each example."
    if targets.ndim == 1:
        whole = not targets.is_floating_point() or bool((targets == targets.round()).all())
        if whole and not targets.is_complex():
            return "Write targets.long()."
        return "They are measurements, not classes: this loop is for classification."
    if targets.ndim == 2 and targets.shape[1] == 1:
        return "Take the second dimension off: targets.squeeze(1).long()."
    if targets.ndim == 2 and not targets.is_complex():
        marks = (targets != 0).sum(dim=1)
        if bool(((targets == 0) | (targets == 1)).all()):
            if bool((marks == 1).all()):
                return "They are one-hot: take targets.argmax(1)."
            return "Several classes or none are marked for an example; expected exactly one."
        return (
            "They are shares of classes, as MixUp, CutMix and smoothed labels give them, and of a "
            "mixture there is no right class to count. Leave the mixing out; for smoothed labels "
            "take loss=nn.CrossEntropyLoss(label_smoothing=0.1)."
        )
    return "One class number an example is expected, not one a pixel."
