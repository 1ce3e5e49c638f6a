"""Measure a model without changing anything about it."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from course_lib import profile
from course_lib.training.batches import Data, as_batches, check_classes, unpack, with_indices
from course_lib.training.errors import TrainingError
from course_lib.training.memory import told_when_full
from course_lib.training.metrics import accuracy, check_outputs, confusion_matrix
from course_lib.training.reduction import Loss, check_loss, total_loss, value_of


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How a model does on a data set.

    Attributes:
        loss: mean over the examples.
        accuracy: share of right predictions, every example counting the same.
        n: number of examples.
        confusion: (C, C) counts; rows are the true classes, columns the predicted ones.
    """

    loss: float
    accuracy: float
    n: int
    confusion: Tensor

    @property
    def correct(self) -> int:
        """Number of right predictions."""
        return int(self.confusion.trace())

    def __repr__(self) -> str:
        return f"loss {self.loss:.2f}, accuracy {self.accuracy:.2f} ({self.correct} of {self.n})"


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What a model says about each example, in the order in which the loader gave them.

    Attributes:
        logits: (N, C) float32 on the CPU.
        targets: (N,) class numbers.
        indices: (N,) each row's place in the data set, right for a shuffled loader too; None if
            the loader doesn't tell.
    """

    logits: Tensor
    targets: Tensor
    indices: Tensor | None

    @property
    def probabilities(self) -> Tensor:
        """(N, C): the softmax of the logits."""
        return self.logits.softmax(dim=1)

    @property
    def predicted(self) -> Tensor:
        """(N,): the class with the highest score."""
        return self.logits.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return accuracy(self.logits, self.targets)

    def most_wrong(self, limit: int = 8) -> Tensor:
        """Rows of wrong predictions, (at most ``limit``,), the most confident mistake first.

        Take ``indices[rows]`` to find their pictures in the data set.
        """
        rows = (self.predicted != self.targets).nonzero().flatten()
        confidence = self.probabilities[rows, self.predicted[rows]]
        return rows[confidence.argsort(descending=True, stable=True)][:limit]

    def __repr__(self) -> str:
        n, classes = self.logits.shape
        return f"{n} predictions over {classes} classes"


def evaluate(
    model: nn.Module, data: Data, loss: Loss | None = None, device: str | torch.device | None = None
) -> Evaluation:
    """Loss, accuracy and confusion matrix of a model on a data set.

    The model computes as in inference and afterwards is in the mode it was in, module by module;
    gradients and random streams are left alone.

    Args:
        model: gives scores (B, C) for a batch of images.
        data: a Dataset, a DataLoader or an iterable of (images, targets) batches.
        loss: as for training; cross-entropy by default. Whether it is a sum or a mean is found out
            by calling it; one that is neither, such as a mean weighed by class, is that of all
            examples together. So it doesn't hang on the batches' sizes.
        device: where to compute; by default where the model is. The model stays there.

    Raises:
        DataError: the data's classes aren't those that the model has learnt, as far as both have
            names (a network that :func:`course_lib.recipe.fit` or ``load`` gives has them).
        TrainingError: no data, model and data don't fit each other, or scores or loss aren't
            numbers.
    """
    found, broken = measure(model, data, loss or nn.CrossEntropyLoss(), device)
    if broken is not None or not math.isfinite(found.loss):
        _refuse_non_finite(broken, found.loss)
    return found


def measure(
    model: nn.Module, data: Data, loss: Loss, device: str | torch.device | None
) -> tuple[Evaluation, int | None]:
    """As :func:`evaluate`, and the first example whose scores hold a NaN, instead of an error."""
    check_loss(loss)
    check_classes({"network's training": model, "evaluation": data})
    losses: list[Tensor] = []
    scores, targets = [], []
    with _inference(model, device) as place:
        for logits, truth in _outputs(model, _evaluation_batches(data), place):
            value = value_of(loss, logits, truth.to(place), first=not losses)
            losses.append(value.sum() if value.ndim else value)
            scores.append(logits)
            targets.append(truth)
        parts = torch.stack(losses).tolist()  # one wait for a GPU, not one a batch
        total = total_loss(loss, parts, scores, [each.to(place) for each in targets])
    every, truth = torch.cat(scores), torch.cat(targets)
    confusion = confusion_matrix(every.argmax(dim=1), truth, every.shape[1])
    n = len(truth)
    return Evaluation(total / n, int(confusion.trace()) / n, n, confusion), first_nan(every)


def first_nan(logits: Tensor) -> int | None:
    """The first row of scores (N, C) that holds a NaN; None if there is none."""
    rows = logits.isnan().any(dim=1).nonzero().flatten()
    return int(rows[0]) if len(rows) else None


def _refuse_non_finite(row: int | None, loss: float) -> NoReturn:
    what = f"The loss is {loss}" if row is None else f"The scores of example {row} are not numbers"
    raise TrainingError(
        f"{what}. Look at its picture (images.isfinite().all()) and at the model's weights: no "
        "measure of them means anything."
    )


def predict(model: nn.Module, data: Data, device: str | torch.device | None = None) -> Predictions:
    """The model's scores for every example; arguments and promises as for :func:`evaluate`."""
    check_classes({"network's training": model, "prediction": data})
    batches, record = with_indices(_evaluation_batches(data))
    logits, targets = [], []
    with _inference(model, device) as place:
        for scores, truth in _outputs(model, batches, place):
            logits.append(scores.float().cpu())
            targets.append(truth.cpu())
    if (row := first_nan(torch.cat(logits))) is not None:
        _refuse_non_finite(row, math.nan)
    indices = None
    if record and [len(each) for each in targets] == [len(each) for each in record.seen]:
        indices = torch.tensor([index for batch in record.seen for index in batch])
    return Predictions(torch.cat(logits), torch.cat(targets), indices)


def _evaluation_batches(data: Data) -> Iterable[Any]:
    return as_batches(data, "evaluation", batch_size=None, shuffle=False, seed=0)


def _outputs(
    model: nn.Module, batches: Iterable[Any], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The scores, and the targets where the loader left them, of every batch."""
    empty = True
    for number, batch in enumerate(batches, start=1):
        images, targets = unpack(batch, number)
        logits = model(images.to(device, non_blocking=device.type == "cuda"))
        check_outputs(logits, targets)
        empty = empty and len(targets) == 0
        yield logits, targets
    if empty:
        raise TrainingError("There is no example to evaluate; give at least one.")


@contextmanager
def _inference(model: nn.Module, device: str | torch.device | None) -> Iterator[torch.device]:
    """The device, to compute without changing modes, gradients and random streams."""
    place = model_device(model) if device is None else torch.device(device)
    # Every run through a DataLoader draws a number from the global stream. Were it not put back,
    # measuring in between would give the training that follows other random numbers.
    full = told_when_full("while the model was measured", "It is as it was. Hand over a DataLoader "
                          "with a smaller batch_size, or smaller pictures.")  # fmt: skip
    with full, evaluation_mode(model):
        model.to(place)
        with torch.no_grad(), profile.own_streams(devices=[place]):
            yield place


def model_device(model: nn.Module) -> torch.device:
    """Where the model's first parameter or buffer is; the profile's device if it has none."""
    for tensor in [*model.parameters(), *model.buffers()]:
        return tensor.device
    return torch.device(profile.current().device)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Compute as in inference; afterwards each module has the mode that it had.

    ``model.train()`` afterwards would put *every* module into training mode, those too that you
    had put into evaluation mode one by one. So the flags themselves are set, and set back.
    """
    modes, gradients = modes_of(model), torch.is_grad_enabled()
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        try:
            _set_modes(modes, gradients)
        finally:  # Ctrl-C may have come during the first one
            _set_modes(modes, gradients)


def _set_modes(modes: list[tuple[nn.Module, bool]], gradients: bool) -> None:
    torch.set_grad_enabled(gradients)  # Ctrl-C on the way out of no_grad would leave them off
    for module, mode in modes:
        if module.training != mode:
            module.training = mode


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Each module with its mode (True for training), the model itself first."""
    return [(module, module.training) for module in model.modules()]


def restore_modes(model: nn.Module, modes: list[tuple[nn.Module, bool]]) -> None:
    """Undo a ``model.train()`` or ``model.eval()``."""
    model.train(modes[0][1])  # for modules that keep a record of these calls, as frozen ones do
    for module, mode in modes:
        module.training = mode
