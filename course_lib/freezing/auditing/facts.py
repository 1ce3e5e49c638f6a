"""Everything the audit knows about one tensor when the step is over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib.freezing.auditing.watch import ModuleSeen, TensorSeen
from course_lib.freezing.hold import is_held
from course_lib.freezing.optimizers import held_by
from course_lib.freezing.select import Inventory, Slot

# Attributes people write when they mean the method requires_grad_() or the flag of a parameter.
_TYPOS = ("require_grad", "requires_grads", "required_grad", "require_grads", "requires_gradient")


@dataclass(kw_only=True)
class TensorFacts:
    """One parameter or buffer: before, during and after the step.

    ``seen`` is what was watched; ``declared`` is ``"frozen"`` or ``"trainable"`` when the caller of
    the audit said so; ``flag_typo`` is a no-op like ``fc.requires_grad`` that was found set.
    """

    slot: Slot
    names: tuple[str, ...]
    tensor: torch.Tensor
    is_parameter: bool
    group: int | None
    declared: str | None = None
    held: bool = False
    flag_typo: str = ""
    gradient_before: float | None = None
    gradient_after: float | None = None
    has_moments: bool = False
    changed: bool = False
    change: float = 0.0
    finite: bool = True
    address_changed: bool = False
    seen: TensorSeen = field(default_factory=TensorSeen)

    @property
    def name(self) -> str:
        """The first name of the tensor."""
        return self.slot.name

    @property
    def owner(self) -> nn.Module:
        """The module that holds it."""
        return self.slot.owner

    @property
    def module_name(self) -> str:
        """The name of that module."""
        return self.slot.name.rpartition(".")[0]

    @property
    def requires_grad(self) -> bool:
        """The flag before the step."""
        return self.tensor.requires_grad

    @property
    def gradient(self) -> float | None:
        """The norm of the gradient at the optimizer's step, or else at the end; None for none."""
        return self.gradient_after if self.seen.gradient is None else self.seen.gradient

    @property
    def meant_frozen(self) -> bool:
        """A parameter which somebody has frozen, or believes to have."""
        return (
            self.declared == "frozen" or self.held or bool(self.flag_typo) or not self.requires_grad
        )

    @property
    def trains(self) -> bool:
        """A parameter that nothing says is frozen, and that the optimizer holds."""
        return not self.meant_frozen and self.group is not None


@dataclass(kw_only=True)
class StepFacts:
    """What concerns the step as a whole.

    Attributes:
        inventory: of the model.
        optimizer: the original, as it was before the step.
        tensors: the facts of each parameter and buffer by first name, from input to output.
        modules: how each module was called in the step.
        stepped: whether the step called the optimizer's ``step``.
    """

    inventory: Inventory
    optimizer: Optimizer
    tensors: dict[str, TensorFacts]
    modules: Mapping[str, ModuleSeen] = field(default_factory=dict)
    stepped: bool = False

    @cached_property
    def parameters(self) -> list[TensorFacts]:
        """The facts of all parameters."""
        return [facts for facts in self.tensors.values() if facts.is_parameter]

    @property
    def root_trains(self) -> bool:
        """Whether the model as a whole is in training mode."""
        return self.inventory.modules[""].training

    @cached_property
    def strangers(self) -> list[torch.Tensor]:
        """Parameters of the optimizer that the model doesn't have."""
        known = {id(slot.tensor) for slot in self.inventory.parameters.values()}
        held = [tensor for group in self.optimizer.param_groups for tensor in group["params"]]
        return [tensor for tensor in held if id(tensor) not in known]

    @cached_property
    def stray_groups(self) -> set[int]:
        """Groups that came after a scheduler was built: it wrote ``initial_lr`` into the others."""
        groups = self.optimizer.param_groups
        lacking = {i for i, group in enumerate(groups) if "initial_lr" not in group}
        return lacking if len(lacking) < len(groups) else set()

    @cached_property
    def late_moments(self) -> set[str]:
        """Trainable tensors with moments that took no part in the last step.

        Between two steps the gradients of the last one are still there. A tensor with moments and
        without a gradient, among others that have one, has been away for a while.
        """
        training = [facts for facts in self.parameters if facts.trains]
        if not any(facts.gradient_before for facts in training):
            return set()
        return {f.name for f in training if f.has_moments and f.gradient_before is None}

    def siblings(self, facts: TensorFacts) -> list[TensorFacts]:
        """The other parameters of the same module."""
        return [
            other for other in self.parameters if other.owner is facts.owner and other is not facts
        ]

    def layer_of(self, facts: TensorFacts) -> list[TensorFacts]:
        """The parameters that a buffer belongs to: of its module, or the nearest one around it."""
        name = facts.module_name
        while True:
            prefix = f"{name}." if name else ""
            around = [p for p in self.parameters if any(n.startswith(prefix) for n in p.names)]
            if around or not name:
                return around
            name = name.rpartition(".")[0]


def gather(model: nn.Module, optimizer: Optimizer, declared: Mapping[str, str]) -> StepFacts:
    """The facts before the step; a tied tensor appears once, under its first name."""
    inventory = Inventory.of(model)
    groups = held_by(optimizer)
    order = {name: place for place, name in enumerate(inventory.modules)}
    slots = [*inventory.parameters.values(), *inventory.buffers.values()]
    slots.sort(key=lambda slot: order[slot.name.rpartition(".")[0]])  # from input to output
    names: dict[int, list[str]] = {}
    for slot in slots:
        names.setdefault(id(slot.tensor), []).append(slot.name)
    facts: dict[str, TensorFacts] = {}
    for slot in slots:
        tensor, mine = slot.tensor, tuple(names[id(slot.tensor)])
        if slot.name != mine[0]:
            continue
        is_parameter = slot.key in slot.owner._parameters
        facts[slot.name] = TensorFacts(
            slot=slot, names=mine, tensor=tensor, is_parameter=is_parameter,
            group=groups.get(id(tensor)),
            declared=next((declared[name] for name in mine if name in declared), None),
            held=is_held(slot), flag_typo=_flag_typo(inventory, slot) if is_parameter else "",
            gradient_before=norm(tensor.grad) if is_parameter else None,
            has_moments=_has_moments(optimizer.state.get(tensor, {})),
        )  # fmt: skip
    return StepFacts(inventory=inventory, optimizer=optimizer, tensors=facts)


def norm(tensor: torch.Tensor | None) -> float | None:
    """The Euclidean norm of a tensor of any shape, or None for no tensor."""
    return None if tensor is None else tensor.detach().float().norm().item()


def difference(after: torch.Tensor, before: torch.Tensor) -> float:
    """The largest absolute change of an element; infinite where there is NaN.

    Args:
        after: of any shape; another one than before is an infinite change.
        before: the same tensor earlier.
    """
    if after.shape != before.shape:
        return float("inf")
    if after.numel() == 0:
        return 0.0
    wide = torch.complex128 if after.is_complex() else torch.float64
    after, before = (each.detach().to_dense().to(wide) for each in (after, before))
    gap = (after - before).abs()
    return gap.nan_to_num(nan=float("inf"), posinf=float("inf")).max().item()


def _has_moments(state: Mapping[str, Any]) -> bool:
    return any(
        isinstance(value, torch.Tensor) and key != "step" and bool(value.count_nonzero())
        for key, value in state.items()
    )


def _flag_typo(inventory: Inventory, slot: Slot) -> str:
    """A flag which was set where it does nothing: on a module, or under another spelling."""
    for typo in _TYPOS:
        if vars(slot.tensor).get(typo) is False:
            return f"{slot.name}.{typo}"
    name = slot.name
    while name:
        name = name.rpartition(".")[0]
        for flag in ("requires_grad", *_TYPOS):
            if vars(inventory.modules[name]).get(flag) is False:
                return f"{name or 'model'}.{flag}"
    return ""
