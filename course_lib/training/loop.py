"""The training loop: one for every chapter, on a CPU or a GPU, in full or mixed precision."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import Dataset

from course_lib import profile
from course_lib.training.batches import Data, as_batches, count_batches, reseed, unpack
from course_lib.training.errors import NonFiniteLossError, TrainingError
from course_lib.training.evaluation import (
    Evaluation,
    Loss,
    adds_up,
    evaluate,
    modes_of,
    restore_modes,
)
from course_lib.training.groups import HeadChoice
from course_lib.training.history import EpochRecord, History
from course_lib.training.metrics import check_outputs, count_correct
from course_lib.training.optimizers import OptimizerChoice, build_optimizer, check_settings
from course_lib.training.precision import Precision
from course_lib.training.progress import bar
from course_lib.training.snapshot import WeightSnapshot

# Reading a number from a GPU makes the program wait for it: there, look every so many batches.
BATCHES_BETWEEN_LOOKS = 16
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


def finetune(
    model: nn.Module,
    train: Data,
    test: Data | None = None,
    *,
    val: Data | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    head_lr_factor: float = 10.0,
    head: HeadChoice | None = None,
    optimizer: OptimizerChoice = "sgd",
    weight_decay: float = 1e-3,
    momentum: float = 0.0,
    loss: Loss | None = None,
    batch_size: int | None = None,
    device: str | torch.device | None = None,
    amp: bool | torch.dtype | None = None,
    scheduler: Callable[[Optimizer], Any] | None = None,
    restore_best: bool = True,
    patience: int | None = None,
    on_epoch_end: Callable[[EpochEnd], bool | None] | None = None,
    on_interrupt: Literal["return", "raise"] = "return",
    progress: bool | None = None,
    seed: int | None = None,
) -> History:
    """Train a model and measure it after each epoch.

    The best epoch is the one with the highest validation accuracy, of equal ones that with the
    lower validation loss. The model ends with its weights. Without ``val``, or with
    ``restore_best=False``, it ends with those of the last finished epoch: the test set is only
    ever measured, never chosen by.

    However the run ends, the model holds the weights of a finished epoch (or those it came with),
    is in evaluation mode, and holds no gradients; the optimizer is not wound back.

    * You stop it (Ctrl-C, the stop button): the epoch under way is given up, the best epoch's
      weights are put back, and the history so far is returned, with the reason in
      ``history.stopped``. In a script, ``on_interrupt="raise"`` lets the KeyboardInterrupt go on.
    * The loss becomes infinite or not-a-number: NonFiniteLossError, the same weights put back.
    * Anything else fails, say in the data set: the same weights put back; the error is passed on,
      with a note that says so.

    Args:
        model: gives scores (B, C) for a batch of images. It is moved to ``device``. Each epoch
            starts with ``model.train()``; a frozen module keeps itself in evaluation mode.
        train: a Dataset, a DataLoader or an iterable of batches (images, class numbers). A
            Dataset gets a loader that shuffles anew each epoch, from the seed.
        test: measured after each epoch.
        val: likewise; it decides which epoch is the best.
        epochs: passes over the training data; by default the profile's.
        lr: learning rate of the pretrained body; by default the profile's for ``"sgd"`` and a
            function, 1e-4 for ``"adam"`` and ``"adamw"``.
        head_lr_factor: the head learns this many times faster.
        head: see :func:`course_lib.training.parameter_groups`.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"``; a function that makes an optimizer from
            the parameter groups; or an optimizer that exists, whose own groups then count (what
            it leaves out doesn't train).
        weight_decay: of both groups.
        momentum: for ``"sgd"``.
        loss: from scores (B, C) and class numbers (B,) to one number; ``CrossEntropyLoss()``,
            the mean over the batch, by default. With a sum instead, the same learning rate takes
            steps that are larger by a factor of the batch size.
        batch_size: for Datasets; by default the profile's.
        device: by default the profile's.
        amp: mixed precision: True, False or a dtype; by default the profile's choice on a CUDA
            device. True means float16 with loss scaling on CUDA, bfloat16 elsewhere.
        scheduler: makes a learning-rate scheduler from the optimizer, for instance
            ``lambda optimizer: CosineAnnealingLR(optimizer, T_max=5)``; it takes a step after
            each epoch (ReduceLROnPlateau by the validation loss, or the training loss).
        restore_best: see above.
        patience: stop when this many epochs in a row brought no better one (needs ``val``).
        on_epoch_end: called after each epoch with an :class:`EpochEnd`; True stops the run.
        on_interrupt: see above.
        progress: show a bar or not; by default where somebody is watching.
        seed: seeds every random stream, the given loaders' own generators too, so that a rerun
            gives the same bits. By default the streams go on from where they are, and Datasets
            are shuffled from the profile's seed.

    Returns:
        The history; print it for a table.

    Raises:
        TrainingError: settings, data and model don't fit; what shows before the first batch is
            refused before anything changes.
        UnknownNameError: no such head or optimizer.
        NonFiniteLossError: see above.
    """
    setting = profile.current()
    epochs = setting.epochs if epochs is None else epochs
    loss = nn.CrossEntropyLoss() if loss is None else loss
    check_settings(epochs, patience, has_val=val is not None, loss=loss)
    place = torch.device(setting.device if device is None else device)
    amp = (setting.amp and place.type == "cuda") if amp is None else amp
    precision = Precision.choose(place, amp)
    if batch_size is not None and not any(isinstance(each, Dataset) for each in (train, val, test)):
        raise TrainingError(
            f"batch_size={batch_size} is for data sets, and these are loaders, which have their "
            "own. Set it there, or hand over the data sets."
        )
    stream = setting.seed if seed is None else seed
    batches = as_batches(train, "training", batch_size, shuffle=True, seed=stream)
    looks = {
        name: as_batches(data, name, batch_size, shuffle=False, seed=stream)
        for name, data in (("validation", val), ("test", test))
        if data is not None
    }
    made = build_optimizer(model, optimizer, lr, head_lr_factor, head, weight_decay, momentum)
    planned = scheduler(made) if scheduler else None
    if seed is not None:
        profile.seed_everything(seed)
        for each in [batches, *looks.values()]:
            reseed(each, seed)
    model.to(place)
    start = WeightSnapshot(model)
    run = _Run(model, made, loss, precision, planned, epochs, restore_best, kept=start)
    modes = modes_of(model)
    try:
        run.go(batches, looks, patience, on_epoch_end, progress)
        run.ended_well = True
    except KeyboardInterrupt as error:
        run.history.stopped = f"interrupted in {run.where()}"
        if on_interrupt == "raise":
            error.add_note(run.note())
            raise
    except BaseException as error:
        error.add_note(run.note())
        if "more than 1 value per channel" in str(error):
            error.add_note(SINGLE_EXAMPLE)
        raise
    finally:
        run.finish(modes)
    return run.history


@dataclass
class _Run:
    """A run under way."""

    model: nn.Module
    optimizer: Optimizer
    loss: Loss
    precision: Precision
    scheduler: Any
    epochs: int
    restore_best: bool
    kept: WeightSnapshot
    history: History = field(default_factory=History)
    epoch: int = 0
    batch: int = 0  # 0 between two epochs
    ended_well: bool = False

    def go(
        self,
        batches: Iterable[Any],
        looks: dict[str, Iterable[Any]],
        patience: int | None,
        on_epoch_end: Callable[[EpochEnd], bool | None] | None,
        progress: bool | None,
    ) -> None:
        for epoch in range(1, self.epochs + 1):
            self.epoch = epoch
            text = f"epoch {epoch}/{self.epochs}"
            with bar(count_batches(batches), text, progress) as shown:
                record = self.train_epoch(batches, shown.update)
            found = {
                name: evaluate(self.model, each, self.loss, self.precision.device)
                for name, each in looks.items()
            }
            self.keep(_with_looks(record, found.get("validation"), found.get("test")))
            if self.scheduler:
                self.step_scheduler()
            if on_epoch_end and on_epoch_end(
                EpochEnd(self.model, self.optimizer, self.history, self.epoch)
            ):
                self.stop(f"on_epoch_end asked for it after epoch {self.epoch}")
                return
            best = self.history.best_epoch or self.epoch
            if patience is not None and self.epoch - best >= patience:
                self.stop(f"no epoch after {best} was better")
                return

    def stop(self, reason: str) -> None:
        if self.epoch < self.epochs:  # the last epoch is no early end
            self.history.stopped = reason

    def train_epoch(self, batches: Iterable[Any], tick: Callable[[], Any]) -> EpochRecord:
        """One pass over the training data."""
        device = self.precision.device
        every = 1 if device.type == "cpu" else BATCHES_BETWEEN_LOOKS
        seen = _Sums(every, adds_up(self.loss), self.refuse_non_finite)
        rates = tuple(float(group["lr"]) for group in self.optimizer.param_groups)
        began = time.perf_counter()
        self.model.train()
        parameters = list(self.model.parameters())
        precision = self.precision.autocast()
        for self.batch, batch in enumerate(batches, start=1):
            images, targets = unpack(batch, self.batch)
            # Of *all* parameters: a gradient that the optimizer doesn't know would pile up.
            for parameter in parameters:
                parameter.grad = None
            with precision:
                logits = self.model(images.to(device, non_blocking=self.precision.overlap))
                check_outputs(logits, targets)
                targets = targets.to(device, non_blocking=self.precision.overlap)
                value = self.loss(logits, targets)
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
            epoch=self.epoch,
            train_loss=seen.loss / seen.n,
            train_acc=seen.right / seen.n,
            lr=rates,
            seconds=seconds,
            images_per_second=seen.n / seconds,
        )

    def keep(self, record: EpochRecord) -> None:
        """Enter the epoch into the history, and keep its weights if they are the best so far."""
        if record.val_loss is not None and not math.isfinite(record.val_loss):
            self.refuse_non_finite(record.val_loss, what="validation loss")
        if not _all_finite(each for each in self.model.parameters() if each.requires_grad):
            self.refuse_non_finite(math.nan, what="weights")
        later = replace(self.history, epochs=[*self.history.epochs, record])
        if not self.restore_best or later.best_epoch in (None, self.epoch):
            kept = WeightSnapshot(self.model)
            self.history.epochs, self.kept = later.epochs, kept
            self.history.kept_epoch = self.epoch
        else:
            self.history.epochs = later.epochs

    def step_scheduler(self) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            last = self.history[-1]
            self.scheduler.step(last.train_loss if last.val_loss is None else last.val_loss)
        else:
            self.scheduler.step()

    def refuse_non_finite(
        self, value: float, batch: int | None = None, what: str = "training loss"
    ) -> NoReturn:
        rates = [group["lr"] for group in self.optimizer.param_groups]
        groups = enumerate(self.optimizer.param_groups)
        names = [group.get("name", f"group {i}") for i, group in groups]
        told = ", ".join(f"{rate:.3g} for {name}" for name, rate in zip(names, rates, strict=True))
        at = f"epoch {self.epoch} of {self.epochs}" + (f", batch {batch}" if batch else "")
        became = "are no longer finite" if what == "weights" else f"became {value}"
        raise NonFiniteLossError(
            f"The {what} {became} in {at} (learning rate {told}). The model holds "
            f"{self.weights_kept()} again. Try a learning rate ten times smaller, such as "
            f"lr={min(rates) / 10:.3g}. If it happens in the very first batch, look at the data: "
            "images.isfinite().all().",
            self.epoch,
            batch,
        )

    def where(self) -> str:
        return f"epoch {self.epoch}, batch {self.batch}" if self.batch else f"epoch {self.epoch}"

    def weights_kept(self) -> str:
        epoch = self.history.kept_epoch
        return f"the weights of epoch {epoch}" if epoch else "the weights it came with"

    def note(self) -> str:
        return f"The training ended in {self.where()}; the model holds {self.weights_kept()}."

    def finish(self, modes: list[tuple[nn.Module, bool]]) -> None:
        """Put the kept weights back, let go of the gradients, and leave the model ready to use."""
        if not self.ended_well or self.history.kept_epoch != len(self.history):
            self.kept.restore(self.model)
        for parameter in self.model.parameters():
            parameter.grad = None
        if self.history.epochs:
            self.model.eval()
        else:
            restore_modes(self.model, modes)  # nothing was learnt, so nothing has changed


class _Sums:
    """Sums over an epoch that read the device's numbers a few batches at a time.

    The losses are looked at every so many batches, the scores less often, since nothing depends on
    them before the epoch's end and one look at many costs as much as one at a few.
    """

    def __init__(self, every: int, summed: bool, refuse: Callable[[float, int], None]) -> None:
        self.every, self.summed, self.refuse = every, summed, refuse
        self.loss, self.right, self.n, self.batches = 0.0, 0, 0, 0
        self.losses: list[tuple[Tensor, int]] = []
        self.scores: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        n = targets.shape[0]
        self.losses.append((loss, 1 if self.summed else n))
        self.scores.append((logits, targets))
        self.n += n
        if len(self.losses) >= self.every:
            self.look()
        if len(self.scores) >= BATCHES_BETWEEN_LOOKS:
            self.count()

    def look(self) -> None:
        for loss, factor in self.losses:
            value = loss.item()
            self.batches += 1
            if not math.isfinite(value):
                self.refuse(value, self.batches)
            self.loss += value * factor
        self.losses.clear()

    def count(self) -> None:
        if self.scores:
            logits, targets = (torch.cat(each) for each in zip(*self.scores, strict=True))
            self.right += int(count_correct(logits, targets).item())
            self.scores.clear()

    def settle(self) -> None:
        self.look()
        self.count()


def _check_loss(value: object) -> None:
    if not isinstance(value, Tensor) or value.ndim:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TrainingError(
            f"The loss must be one number for the batch; got {found}. Choose its reduction: "
            "'mean', or 'sum', for which the same learning rate takes steps larger by the batch "
            "size."
        )


@torch.no_grad()
def _all_finite(tensors: Iterable[Tensor]) -> bool:
    # A sum is finite only if all of its terms are, and much faster than looking at each. Finite
    # terms can overflow together, so a sum that isn't finite is looked into.
    return all(each.sum().isfinite() or each.isfinite().all() for each in tensors)


def _with_looks(
    record: EpochRecord, val: Evaluation | None, test: Evaluation | None
) -> EpochRecord:
    if val:
        record = replace(record, val_loss=val.loss, val_acc=val.accuracy)
    if test:
        record = replace(record, test_loss=test.loss, test_acc=test.accuracy)
    return record
