"""A run of the training loop: epoch after epoch, and how it ends whatever happens."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from course_lib.data.progress import bar
from course_lib.training.batches import count_batches, unpack
from course_lib.training.errors import NonFiniteLossError, TrainingError
from course_lib.training.evaluation import measure, modes_of, restore_modes
from course_lib.training.history import EpochRecord, History
from course_lib.training.memory import is_shortage, shortage
from course_lib.training.metrics import check_outputs, count_correct, said
from course_lib.training.precision import Precision
from course_lib.training.reduction import Loss, total_loss, value_of
from course_lib.training.snapshot import WeightSnapshot

# Reading a number from a GPU makes the program wait for it: there, read every so many batches.
BATCHES_BETWEEN_READS = 16
SINGLE_EXAMPLE = (
    "BatchNorm can't train on a batch of one example. If the last batch is that small, choose "
    "another batch_size, or a DataLoader with drop_last=True."
)


@dataclass(frozen=True)
class EpochEnd:
    """What a callback gets after each epoch.

    Attributes:
        model: the model, with this epoch's weights.
        optimizer: the optimizer; after unfreezing a part, give it that part's parameters.
        history: the epochs so far, this one included.
        epoch: its number, from 1.
    """

    model: nn.Module
    optimizer: Optimizer
    history: History
    epoch: int


@dataclass(kw_only=True)
class Run:
    """A run under way; attributes as for :func:`course_lib.training.finetune`.

    Attributes:
        kept: the weights that the model ends with.
        history: the epochs that were finished.
        epoch: the one under way, from 1.
        batch: the one under way, from 1; 0 between two epochs.
        size: examples in the batch that was trained on last.
    """

    model: nn.Module
    optimizer: Optimizer
    loss: Loss
    precision: Precision
    scheduler: Any
    epochs: int
    restore_best: bool
    patience: int | None
    on_epoch_end: Callable[[EpochEnd], bool | None] | None
    on_interrupt: Literal["return", "raise"]
    progress: bool | None
    kept: WeightSnapshot
    history: History = field(default_factory=History)
    epoch: int = 0
    batch: int = 0
    size: int = 0

    def go(self, batches: Iterable[Any], measured: dict[str, Iterable[Any]]) -> None:
        """Train; however it ends, the model is left ready to use.

        Args:
            batches: to train on.
            measured: to measure on after each epoch, by name.
        """
        modes, ended_well = modes_of(self.model), False
        try:
            self._epochs(batches, measured)
            ended_well = True
        except KeyboardInterrupt as error:
            self.history.stopped = f"interrupted in {self._where()}"
            self.history.interrupted = True
            if self.on_interrupt == "raise":
                error.add_note(self._note())
                raise
        except Exception as error:
            if is_shortage(error):
                raise shortage(error, f"in {self._where()}", self._smaller()) from error
            error.add_note(self._note())
            if "more than 1 value per channel" in str(error):
                error.add_note(SINGLE_EXAMPLE)
            raise
        except BaseException as error:
            error.add_note(self._note())
            raise
        finally:
            if not ended_well or self.history.kept_epoch != len(self.history):
                self.kept.restore(self.model)
            for parameter in self.model.parameters():
                parameter.grad = None
            if self.history.epochs:
                self.model.eval()
            else:
                restore_modes(self.model, modes)  # nothing was learnt, so nothing has changed

    def _epochs(self, batches: Iterable[Any], measured: dict[str, Iterable[Any]]) -> None:
        """Epoch after epoch, until one is the last or somebody wants it to end."""
        for number in range(1, self.epochs + 1):
            self.epoch = number
            text = f"epoch {self.epoch}/{self.epochs}"
            with bar(count_batches(batches), text, self.progress) as shown:
                record = self._train(batches, shown.update)
            self._keep(self._measure(record, measured))
            if self.scheduler:
                self._step_scheduler()
            reason = self._reason_to_stop()
            if reason:
                if self.epoch < self.epochs:  # the last epoch is no early end
                    self.history.stopped = reason
                return

    def _reason_to_stop(self) -> str:
        end = EpochEnd(self.model, self.optimizer, self.history, self.epoch)
        if self.on_epoch_end and self.on_epoch_end(end):
            return f"on_epoch_end asked for it after epoch {self.epoch}"
        best = self.history.best_epoch or self.epoch
        if self.patience is not None and self.epoch - best >= self.patience:
            return f"no epoch after {best} was better"
        return ""

    def _train(self, batches: Iterable[Any], tick: Callable[[], Any]) -> EpochRecord:
        """One pass over the training data."""
        device = self.precision.device
        every = 1 if device.type == "cpu" else BATCHES_BETWEEN_READS
        seen = _Sums(every, self.loss, self._refuse_non_finite)
        rates = tuple(float(group["lr"]) for group in self.optimizer.param_groups)
        began = time.perf_counter()
        self.model.train()
        parameters = list(self.model.parameters())
        precision = self.precision.autocast()
        for self.batch, batch in enumerate(batches, start=1):
            images, targets = unpack(batch, self.batch)
            self.size = len(images)
            # Of *all* parameters: a gradient that the optimizer doesn't know would pile up.
            for parameter in parameters:
                parameter.grad = None
            with precision:
                logits = self.model(images.to(device, non_blocking=self.precision.overlap))
                check_outputs(logits, targets)
                targets = targets.to(device, non_blocking=self.precision.overlap)
                value = value_of(self.loss, logits, targets, first=self.batch == 1)
            _check_loss(value)
            self.precision.step(value, self.optimizer)
            seen.add(value.detach(), logits.detach(), targets)
            tick()
        seen.settle()
        self.batch = 0
        if not seen.n:
            raise TrainingError(
                f"The training data had no example in epoch {self.epoch}. A generator can be run "
                "through only once: give a Dataset, a DataLoader or a list of batches."
            )
        seconds = time.perf_counter() - began
        return EpochRecord(
            epoch=self.epoch, train_loss=seen.loss / seen.n, train_acc=seen.right / seen.n,
            lr=rates, seconds=seconds, images_per_second=seen.n / seconds,
        )  # fmt: skip

    def _measure(self, record: EpochRecord, measured: dict[str, Iterable[Any]]) -> EpochRecord:
        """The record with the numbers on the validation and the test data."""
        found = {
            name: measure(self.model, each, self.loss, self.precision.device)[0]
            for name, each in measured.items()
        }
        if val := found.get("validation"):
            record = replace(record, val_loss=val.loss, val_acc=val.accuracy)
        if test := found.get("test"):
            record = replace(record, test_loss=test.loss, test_acc=test.accuracy)
        return record

    def _keep(self, record: EpochRecord) -> None:
        """Enter the epoch into the history, and keep its weights if they are the best so far."""
        if record.val_loss is not None and not math.isfinite(record.val_loss):
            self._refuse_non_finite(record.val_loss, what="validation loss")
        if not _all_finite(each for each in self.model.parameters() if each.requires_grad):
            self._refuse_non_finite(math.nan, what="weights")
        later = replace(self.history, epochs=[*self.history.epochs, record])
        if not self.restore_best or later.best_epoch in (None, self.epoch):
            kept = WeightSnapshot(self.model)
            self.history.epochs, self.kept = later.epochs, kept
            self.history.kept_epoch = self.epoch
        else:
            self.history.epochs = later.epochs

    def _step_scheduler(self) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            last = self.history[-1]
            self.scheduler.step(last.train_loss if last.val_loss is None else last.val_loss)
        else:
            self.scheduler.step()

    def _refuse_non_finite(
        self, value: float, batch: int | None = None, what: str = "training loss"
    ) -> NoReturn:
        groups = list(enumerate(self.optimizer.param_groups))
        told = ", ".join(
            f"{group['lr']:.3g} for {group.get('name', f'group {place}')}"
            for place, group in groups
        )
        smaller = min(group["lr"] for _, group in groups) / 10
        at = f"epoch {self.epoch} of {self.epochs}" + (f", batch {batch}" if batch else "")
        became = "are no longer finite" if what == "weights" else f"became {value}"
        raise NonFiniteLossError(
            f"The {what} {became} in {at} (learning rate {told}). The model holds "
            f"{self._weights_kept()} again. Try a learning rate ten times smaller, such as "
            f"lr={smaller:.3g}. If it happens in the very first batch, look at the data: "
            "images.isfinite().all().",
            self.epoch,
            batch,
        )

    def _where(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch}" if self.batch else f"epoch {self.epoch}"

    def _weights_kept(self) -> str:
        epoch = self.history.kept_epoch
        return f"the weights of epoch {epoch}" if epoch else "the weights it came with"

    def _smaller(self) -> str:
        half = f", such as batch_size={self.size // 2}" if self.size > 1 else ""
        return (
            f"The model holds {self._weights_kept()}. Take smaller batches{half}, smaller "
            "pictures, or freeze more of the network."
        )

    def _note(self) -> str:
        return f"The training ended in {self._where()}; the model holds {self._weights_kept()}."


class _Sums:
    """Sums over an epoch that read the device's numbers a few batches at a time.

    The losses are read every so many batches, the scores less often, since nothing depends on them
    before the epoch's end and reading many costs as much as reading a few.
    """

    def __init__(self, every: int, loss: Loss, refuse: Callable[[float, int], None]) -> None:
        self.every, self.call, self.refuse = every, loss, refuse
        self.loss, self.right, self.n, self.batches = 0.0, 0, 0, 0
        self.losses: list[Tensor] = []
        self.parts: list[float] = []
        self.scores: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Take in a batch: loss (), scores (B, C), class numbers (B,)."""
        self.losses.append(loss)
        self.scores.append((logits, targets))
        self.n += targets.shape[0]
        if len(self.losses) >= self.every:
            self.read()
        if len(self.scores) >= BATCHES_BETWEEN_READS:
            self.count()

    def read(self) -> None:
        """Read the losses that were taken in; refuse one that isn't finite."""
        for loss in self.losses:
            value = loss.item()
            self.batches += 1
            if not math.isfinite(value):
                self.refuse(value, self.batches)
            self.parts.append(value)
        self.losses.clear()

    def count(self) -> None:
        """Count the right ones among the scores that were taken in, and add up their losses."""
        if not self.scores:
            return
        self.read()
        logits, targets = zip(*self.scores, strict=True)
        self.loss += total_loss(self.call, self.parts, logits, targets)
        self.right += int(count_correct(torch.cat(logits), torch.cat(targets)).item())
        self.scores.clear()
        self.parts.clear()

    def settle(self) -> None:
        """Read and count what is left, at the end of the epoch."""
        self.read()
        self.count()


def _check_loss(value: Tensor) -> None:
    if value.ndim:
        raise TrainingError(
            f"The loss must be one number for the batch; got {said(value)}. Choose its reduction: "
            "'mean', or 'sum', for which the same learning rate takes steps larger by the batch "
            "size."
        )
    if not value.requires_grad:
        raise TrainingError(
            "The loss doesn't hang on the weights: no gradient leads from it back to them. It must "
            "be computed from the scores by torch's functions, without argmax, detach() or item()."
        )


@torch.no_grad()
def _all_finite(tensors: Iterable[Tensor]) -> bool:
    # A sum is finite only if all of its terms are, and much faster than a test of each. Finite
    # terms can overflow together, so of a sum that isn't finite the terms are tested.
    return all(each.sum().isfinite() or each.isfinite().all() for each in tensors)
