"""From names to tensors: what exactly does ``"layer4"`` or ``"*.bias"`` mean in this model?

Names and patterns are those of ``course_lib.freezing.names``. A module, parameter or buffer of the
model itself, as an object, will do as well. The model as a whole has no name and no pattern matches
it: ``"*"`` is everything *inside*; hand over the model object to mean it too.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.freezing.names import below, resolve
from course_lib.text import few

Target = str | nn.Module | torch.Tensor
Names = Target | Iterable[Target]


class FreezingError(CourseError, ValueError):
    """Freezing or unfreezing can't be done as asked; nothing was changed."""


@dataclass(frozen=True)
class Slot:
    """One place where a tensor lives: ``owner`` holds it under ``key``; ``name`` is the full name.

    Two slots may hold one tensor: that is what tied weights are.
    """

    name: str
    owner: nn.Module
    key: str

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor which is there now, of any shape.

        Raises:
            LookupError: none is there any more.
        """
        for table in (self.owner._parameters, self.owner._buffers):  # of scripts: no true dicts
            if self.key in table and (found := table[self.key]) is not None:
                return found
        raise LookupError(f"{self.name} holds no tensor any more.")


@dataclass(frozen=True)
class Inventory:
    """Everything in a model that has a name. Shared things stand under each of their names."""

    modules: dict[str, nn.Module]
    parameters: dict[str, Slot]
    buffers: dict[str, Slot]

    @classmethod
    def of(cls, model: nn.Module) -> "Inventory":
        """List the modules, parameters and buffers of ``model``.

        Raises:
            FreezingError: it is no module.
        """
        if not isinstance(model, nn.Module):
            raise FreezingError(
                f"The model must be a torch.nn.Module, not {type(model).__name__} ({model!r:.60})."
            )
        modules = dict(model.named_modules(remove_duplicate=False))
        parameters: dict[str, Slot] = {}
        buffers: dict[str, Slot] = {}
        for module_name, module in modules.items():
            prefix = f"{module_name}." if module_name else ""
            for found, own in ((parameters, module._parameters), (buffers, module._buffers)):
                for key, tensor in own.items():
                    if tensor is not None:
                        found[prefix + key] = Slot(prefix + key, module, key)
        return cls(modules, parameters, buffers)

    @property
    def names(self) -> list[str]:
        """All names one can select by; the model itself has none."""
        return [name for name in (*self.modules, *self.parameters, *self.buffers) if name]

    def slots_by_tensor(self) -> dict[int, list[Slot]]:
        """All slots of each parameter, keyed by the tensor's ``id``: more than one means tied."""
        places: dict[int, list[Slot]] = {}
        for slot in self.parameters.values():
            places.setdefault(id(slot.tensor), []).append(slot)
        return places


@dataclass
class Selection:
    """What a list of names stands for: modules (with all below), parameters and buffers."""

    inventory: Inventory
    modules: dict[str, nn.Module] = field(default_factory=dict)
    parameters: dict[str, Slot] = field(default_factory=dict)
    buffers: dict[str, Slot] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Add what stands under the exact ``name``; a module brings all below it."""
        every = self.inventory
        if name in every.modules and name not in self.modules:
            self.modules |= {each: every.modules[each] for each in below(name, every.modules)}
            self.parameters |= {n: every.parameters[n] for n in below(name, every.parameters)}
            self.buffers |= {each: every.buffers[each] for each in below(name, every.buffers)}
        if name in every.parameters:
            self.parameters[name] = every.parameters[name]
        if name in every.buffers:
            self.buffers[name] = every.buffers[name]


def select(model: nn.Module, names: Names) -> Selection:
    """Resolve ``names`` in ``model``, changing nothing.

    Raises:
        UnknownNameError: a name, pattern or object matches nothing in the model.
        FreezingError: a name is empty, given twice, or isn't a name at all.
    """
    return select_in(Inventory.of(model), names)


def select_in(inventory: Inventory, names: Names) -> Selection:
    """As ``select``, in an inventory made before.

    Raises:
        UnknownNameError, FreezingError: as ``select``.
    """
    selection = Selection(inventory)
    seen: set[str] = set()
    for target in _one_by_one(names):
        found = _resolve(selection.inventory, target)
        label = target if isinstance(target, str) else found[0]
        if label in seen:
            raise FreezingError(f"{_describe(target)} is named twice. Name each thing once.")
        seen.add(label)
        for name in found:
            selection.add(name)
    return selection


def _one_by_one(names: Names) -> Iterator[Target]:
    # Strings, tensors and nn.Sequential can be iterated over, but each of them is *one* thing.
    if isinstance(names, (str, nn.Module, torch.Tensor)):
        yield names
    elif isinstance(names, Iterable) and not isinstance(names, (bytes, dict)):
        yield from names
    else:
        raise FreezingError(
            "Names are given as one name or a list of names (or modules, or parameters), "
            f"not as {type(names).__name__} ({names!r:.60})."
        )


def _resolve(inventory: Inventory, target: Target) -> list[str]:
    """The exact names that ``target`` stands for; at least one, or an error."""
    if isinstance(target, str):
        return _resolve_string(inventory, target)
    if isinstance(target, nn.Module):
        found = [name for name, module in inventory.modules.items() if module is target]
    elif isinstance(target, torch.Tensor):
        slots = inventory.parameters | inventory.buffers
        found = [name for name, slot in slots.items() if slot.tensor is target]
    else:
        raise FreezingError(
            f"{target!r:.60} is a {type(target).__name__}; a name is a string, a module, "
            "a parameter or a buffer of the model. For indices there is freeze_by_idxs."
        )
    if not found:
        raise UnknownNameError(
            f"{_describe(target)} is not a part of this model. "
            "Take it from the model that you freeze, not from a copy or another one."
        )
    return found[:1]


def _resolve_string(inventory: Inventory, name: str) -> list[str]:
    if not name.strip():
        raise FreezingError(
            "The empty name selects nothing. Use [] for nothing, '*' for everything inside the "
            "model, or the model object for the model itself."
        )
    return resolve(name, inventory.names, "This model", partial(_hint, inventory))


def _hint(inventory: Inventory, name: str, known: Collection[str]) -> str:
    """``conv.weight`` under a parametrization (weight or spectral norm) is no parameter."""
    owner, _, key = name.rpartition(".")
    place = f"{owner}.parametrizations.{key}" if owner else f"parametrizations.{key}"
    if place in inventory.modules:
        return f" It is computed by a parametrization; its parameters are under {place!r}."
    tops = [each for each in inventory.modules if each and "." not in each]
    listed = f" Its top-level modules: {few(tops, 12)}." if tops else ""
    return suggest(name, known) or listed


def _describe(target: Target) -> str:
    if isinstance(target, str):
        return repr(target)
    if isinstance(target, nn.Module):
        return f"The {type(target).__name__} given"
    shape = "not yet known" if is_lazy(target) else tuple(target.shape)
    return f"The tensor given (shape {shape})"
