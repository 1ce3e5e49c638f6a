"""What ``unfreeze`` does to an optimizer: add what is missing, forget what is stale."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import LBFGS, Optimizer

from course_lib.errors import suggest
from course_lib.freezing.select import FreezingError, Inventory


def held_by(optimizer: Optimizer) -> dict[int, int]:
    """The parameters an optimizer holds, by ``id``, with the index of their group.

    By identity: ``tensor in list`` compares values, and takes a twin for the thing itself.
    """
    groups = enumerate(optimizer.param_groups)
    return {id(tensor): index for index, group in groups for tensor in group["params"]}


def has_scheduler(optimizer: Optimizer) -> bool:
    """Whether a learning-rate scheduler seems to have been built on this optimizer.

    An optimizer doesn't know its schedulers. But a scheduler wraps ``optimizer.step``, to see that
    it is called, and writes ``initial_lr`` into the groups.
    """
    wrapped = hasattr(optimizer.step, "_wrapped_by_lr_sched")
    return wrapped or any("initial_lr" in group for group in optimizer.param_groups)


@dataclass
class GroupPlan:
    """A new parameter group, checked but not added yet."""

    optimizer: Optimizer | None = None
    missing: dict[str, torch.Tensor] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def added(self) -> tuple[str, ...]:
        """Names of the parameters that the plan adds."""
        return tuple(self.missing)

    def apply(self) -> None:
        """Add the group. torch checks it again before it changes anything."""
        if self.optimizer is None or not self.missing:
            return
        named = "param_names" in self.optimizer.param_groups[0]
        params = list(self.missing.items()) if named else list(self.missing.values())
        self.optimizer.add_param_group({"params": params, **self.options})
        for tensor in self.missing.values():
            tensor.grad = None  # piled up while nobody used it: the first step would be huge

    def forget(self, tensor: torch.Tensor) -> None:
        """Drop the moments kept for ``tensor``: they tell of steps long ago."""
        if self.optimizer is not None:
            self.optimizer.state.pop(tensor, None)


def plan_group(
    inventory: Inventory,
    optimizer: Optimizer | None,
    trainable: Mapping[str, torch.Tensor],
    options: Mapping[str, Any],
    scheduler: Any = None,
) -> GroupPlan:
    """Check that parameters can join an optimizer, and what there is to warn about.

    Args:
        inventory: of the model that they belong to.
        optimizer: None is fine where there is nothing to add.
        trainable: name -> parameter, of any shape.
        options: of the new group.
        scheduler: of this optimizer, if it is known.

    Raises:
        FreezingError: it is no optimizer or one of another model, it lacks one of the options, or
            the scheduler is another's. Nothing has been changed.
    """
    if optimizer is None:
        if options or scheduler is not None:
            given = ", ".join([*options, *(["scheduler"] if scheduler is not None else [])])
            raise FreezingError(f"{given}: options of a new group need optimizer=... as well.")
        return GroupPlan()
    _check_optimizer(inventory, optimizer, options, scheduler)

    holds = held_by(optimizer)
    missing: dict[str, torch.Tensor] = {}
    for name, tensor in trainable.items():
        if id(tensor) not in holds and all(tensor is not other for other in missing.values()):
            missing[name] = tensor
    if missing and isinstance(optimizer, LBFGS):
        raise FreezingError(
            "LBFGS works on one group that is fixed when it is built. Unfreeze without "
            "optimizer=..., then build a new LBFGS."
        )
    plan = GroupPlan(optimizer, missing, dict(options))
    if options and trainable and not missing:
        plan.warnings.append(
            f"{', '.join(options)} not used, since nothing was added: the optimizer holds these "
            "parameters already. Change optimizer.param_groups to give them other options."
        )
    if missing and _unknown_to(scheduler, optimizer):
        plan.warnings.append(
            "The learning-rate scheduler doesn't know the new group: some schedulers will raise at "
            "their next step, others leave its rate off the curve. Build the scheduler anew. Or "
            "hand all parameters to the optimizer at the start: a frozen one costs nothing there."
        )
    return plan


def _unknown_to(scheduler: Any, optimizer: Optimizer) -> bool:
    if scheduler is None:
        return has_scheduler(optimizer)
    return len(getattr(scheduler, "base_lrs", ())) < len(optimizer.param_groups) + 1


def _check_optimizer(
    inventory: Inventory, optimizer: Optimizer, options: Mapping[str, Any], scheduler: Any
) -> None:
    if not isinstance(optimizer, Optimizer):
        raise FreezingError(
            f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}."
        )
    holds = held_by(optimizer)
    if holds and not any(id(slot.tensor) in holds for slot in inventory.parameters.values()):
        raise FreezingError(
            "The optimizer holds no parameter of this model: it was built for another model, or "
            "before the model was replaced. Give the optimizer built from this model's parameters."
        )
    if scheduler is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise FreezingError("The scheduler drives another optimizer than the one given.")
    known = {*optimizer.defaults, *(key for group in optimizer.param_groups for key in group)}
    for option in options:
        if option not in known - {"params", "param_names"}:
            raise FreezingError(
                f"{type(optimizer).__name__} has no option {option!r}."
                + (suggest(option, known) or f" It has: {', '.join(sorted(optimizer.defaults))}.")
            )
