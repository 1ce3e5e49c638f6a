"""The training loop: one for every chapter, on a CPU or a GPU, in full or mixed precision."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from course_lib import profile
from course_lib.training.batches import (
    Data,
    as_batches,
    check_classes,
    forget_other_classes,
    reseed,
)
from course_lib.training.epochs import EpochEnd, Run
from course_lib.training.errors import OutOfMemoryError, TrainingError
from course_lib.training.evaluation import model_device
from course_lib.training.groups import HeadChoice
from course_lib.training.history import History
from course_lib.training.memory import told_when_full
from course_lib.training.optimizers import OptimizerChoice, build_optimizer, check_settings
from course_lib.training.precision import Precision
from course_lib.training.reduction import Loss
from course_lib.training.snapshot import WeightSnapshot


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
        DataError: data sets whose classes have other names, or another order.
        OutOfMemoryError: there is too little memory; the same weights put back.
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
    batches, measured = _batches(
        train, val, test, batch_size, seed=setting.seed if seed is None else seed
    )
    made = build_optimizer(model, optimizer, lr, head_lr_factor, head, weight_decay, momentum)
    planned = scheduler(made) if scheduler else None
    if seed is not None:
        profile.seed_everything(seed)
        for each in [batches, *measured.values()]:
            reseed(each, seed)
    forget_other_classes(model, train)
    came_from = model_device(model)
    try:
        with told_when_full("before the first batch", "The model is as it was. Take a smaller one, "
                            "or free memory: restart other notebooks."):  # fmt: skip
            model.to(place)
            kept = WeightSnapshot(model)
    except OutOfMemoryError:
        model.to(came_from)  # some of it may have been moved
        raise
    run = Run(
        model=model, optimizer=made, loss=loss, precision=precision, scheduler=planned,
        epochs=epochs, restore_best=restore_best, patience=patience, on_epoch_end=on_epoch_end,
        on_interrupt=on_interrupt, progress=progress, kept=kept,
    )  # fmt: skip
    run.go(batches, measured)
    return run.history


def _batches(
    train: Data, val: Data | None, test: Data | None, batch_size: int | None, seed: int
) -> tuple[Iterable[Any], dict[str, Iterable[Any]]]:
    """The batches to train on, and those to measure on by name."""
    if batch_size is not None and not any(isinstance(each, Dataset) for each in (train, val, test)):
        raise TrainingError(
            f"batch_size={batch_size} is for data sets, and these are loaders, which have their "
            "own. Set it there, or hand over the data sets."
        )
    check_classes({"training": train, "validation": val, "test": test})
    measured = {
        name: as_batches(data, name, batch_size, shuffle=False, seed=seed)
        for name, data in (("validation", val), ("test", test))
        if data is not None
    }
    return as_batches(train, "training", batch_size, shuffle=True, seed=seed), measured
