"""From the settings of a run to an optimizer, with what doesn't fit refused beforehand."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib import profile
from course_lib.errors import UnknownNameError, suggest
from course_lib.training.errors import TrainingError
from course_lib.training.groups import HeadChoice, check_not_negative, parameter_groups
from course_lib.training.reduction import check_loss

OptimizerChoice: TypeAlias = str | Optimizer | Callable[[list[dict[str, Any]]], Optimizer]

NAMES = ("sgd", "adam", "adamw")
ADAM_LR = 1e-4  # Adam's steps have about the size of lr whatever the gradient: it needs small ones


def build_optimizer(
    model: nn.Module, choice: OptimizerChoice, lr: float | None, head_lr_factor: float,
    head: HeadChoice | None, weight_decay: float, momentum: float,
) -> Optimizer:  # fmt: skip
    """The optimizer of a run; arguments as for :func:`course_lib.training.finetune`.

    Raises:
        TrainingError: the settings contradict each other or the model.
        UnknownNameError: no such optimizer or head.
    """
    check_not_negative("momentum", momentum)
    if momentum and choice != "sgd":
        raise TrainingError(f"momentum={momentum} is for 'sgd'; set your optimizer's own instead.")
    if isinstance(choice, Optimizer):
        if lr is not None or head is not None:
            raise TrainingError(
                "lr and head say how to build an optimizer, and this one exists. Leave them out, "
                "or build it from course_lib.training.parameter_groups(model, lr, head=...)."
            )
        return _check_belongs(choice, model)
    if isinstance(choice, str) and choice not in NAMES:
        raise UnknownNameError(
            f"No optimizer is called {choice!r}; expected one of {', '.join(NAMES)}, or a function "
            f"that makes one from the parameter groups.{suggest(choice.lower(), NAMES)}"
        )
    if lr is None:
        lr = ADAM_LR if choice in ("adam", "adamw") else profile.current().learning_rate
    groups = parameter_groups(model, lr, head_lr_factor, head, weight_decay)
    if choice == "sgd":
        return torch.optim.SGD(groups, momentum=momentum)
    if choice == "adam":
        return torch.optim.Adam(groups)
    if choice == "adamw":
        return torch.optim.AdamW(groups)
    if not callable(choice) or not isinstance(made := choice(groups), Optimizer):
        raise TrainingError(
            "optimizer must be a name, an optimizer, or a function that makes one, for instance "
            f"lambda groups: torch.optim.RMSprop(groups); got {choice!r}."
        )
    return _check_belongs(made, model)


def _check_belongs(optimizer: Optimizer, model: nn.Module) -> Optimizer:
    """Refuse an optimizer that would train something else than this model."""
    own = {id(parameter) for parameter in model.parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    strangers = sum(id(parameter) not in own for parameter in held)
    if strangers:
        raise TrainingError(
            f"{strangers} of the optimizer's {len(held)} parameters are not the model's. It was "
            "probably built before the head was replaced: build it again, from this model."
        )
    if not any(parameter.requires_grad for parameter in held):
        raise TrainingError(
            "Nothing to train: none of the optimizer's parameters requires a gradient. Unfreeze "
            "some of them, or build it again."
        )
    return optimizer


def check_settings(epochs: int, patience: int | None, has_val: bool, loss: object) -> None:
    """Refuse numbers of epochs that make no sense, and losses without a reduction.

    Raises:
        TrainingError: they are such.
    """
    for name, value in (("epochs", epochs), ("patience", patience)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise TrainingError(f"{name} must be a whole number; got {value!r}.")
    if epochs < 1:
        raise TrainingError(f"epochs must be at least 1; got {epochs}.")
    if patience is not None and patience < 1:
        raise TrainingError(f"patience must be at least 1; got {patience}.")
    if patience is not None and not has_val:
        raise TrainingError(
            "patience waits for a better validation accuracy: give validation data with val=..., "
            "apart from the test data."
        )
    check_loss(loss)
