"""Two parameter groups: the pretrained body at a small learning rate, the new head at a larger one.

The body's weights are good already and need small steps; the head starts from random numbers and
needs large ones.
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

from torch import nn

from course_lib import backbones
from course_lib.errors import UnknownNameError, suggest
from course_lib.training.errors import TrainingError

HeadChoice: TypeAlias = str | nn.Module | Iterable[str | nn.Module]


def parameter_groups(
    model: nn.Module,
    lr: float,
    head_lr_factor: float = 10.0,
    head: HeadChoice | None = None,
    weight_decay: float = 1e-3,
) -> list[dict[str, Any]]:
    """The groups to build an optimizer from: ``torch.optim.SGD(parameter_groups(model, 1e-3))``.

    Only parameters that require a gradient are in them, each exactly once; a weight that body
    and head share belongs to the head. A body that is frozen altogether has no group.

    Args:
        model: the model.
        lr: learning rate of the body.
        head_lr_factor: the head learns at ``lr * head_lr_factor``.
        head: the head's dotted name or the module itself, or several of them; by default
            those that :func:`course_lib.backbones.head_names` finds.
        weight_decay: for both groups.

    Returns:
        One or two dictionaries with ``name`` (``"body"``, ``"head"``), ``params``, ``lr`` and
        ``weight_decay``.

    Raises:
        TrainingError: nothing is left to train, the head has nothing to train, or a number is
            negative or not finite.
        UnknownNameError: the model has no module of that name.
    """
    for name, value in (("lr", lr), ("head_lr_factor", head_lr_factor)):
        check_not_negative(name, value)
    check_not_negative("weight_decay", weight_decay)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(
            "Nothing to train: no parameter of the model requires a gradient. Unfreeze at least "
            "the head; if you froze everything after the head was put in, freeze first."
        )
    heads = find_heads(model, head)
    modules = nn.ModuleList(heads.values())  # its parameters() gives a shared one once
    in_head = [each for each in modules.parameters() if each.requires_grad]
    if not in_head:
        raise TrainingError(
            f"The head {', '.join(heads)} has no parameter that requires a gradient, so it would "
            "never learn. Unfreeze it, or name another head with head=..."
        )
    ids = {id(each) for each in in_head}
    in_body = [each for each in model.parameters() if each.requires_grad and id(each) not in ids]
    body = {"name": "body", "params": in_body, "lr": lr, "weight_decay": weight_decay}
    head_lr = lr * head_lr_factor
    return [body] * bool(in_body) + [
        {"name": "head", "params": in_head, "lr": head_lr, "weight_decay": weight_decay}
    ]


def find_heads(model: nn.Module, head: HeadChoice | None) -> dict[str, nn.Module]:
    """The heads' modules by their dotted names.

    Raises:
        UnknownNameError: the model has no such module.
        TrainingError: an empty list of heads.
    """
    modules = dict(model.named_modules())
    if head is None:
        head = backbones.head_names(model)
    chosen = [head] if isinstance(head, str | nn.Module) else list(head)
    if not chosen:
        raise TrainingError("head=[] names no head. Name one, or leave it out to have it found.")
    names = [each if isinstance(each, str) else _name_of(modules, each) for each in chosen]
    for name in names:
        if not name or name not in modules:
            direct = ", ".join(repr(each) for each, _ in model.named_children())
            raise UnknownNameError(
                f"The model has no module named {name!r} to be its head.{suggest(name, modules)} "
                f"Its direct children are {direct or 'none'}."
            )
    return {name: modules[name] for name in names}


def _name_of(modules: dict[str, nn.Module], wanted: nn.Module) -> str:
    for name, module in modules.items():
        if module is wanted and name:
            return name
    raise UnknownNameError(
        f"The {type(wanted).__name__} given as head is not a part of the model; it may have been "
        "replaced since. Take it from the model again, or give its dotted name."
    )


def check_not_negative(name: str, value: float) -> None:
    """Refuse a negative, infinite or missing number.

    Raises:
        TrainingError: it is one.
    """
    if not math.isfinite(value) or value < 0:
        raise TrainingError(f"{name} must be a number of at least 0; got {value!r}.")
