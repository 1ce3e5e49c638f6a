"""All that training changes in a model and that its next steps depend on: taken down, given back.

A state dict is the smaller part of it. Beside it stand ``requires_grad``, each module's mode, what
``freeze`` holds, gradients, and buffers that aren't persistent.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from course_lib.freezing.hold import hold_of, is_whole
from course_lib.freezing.select import Inventory
from course_lib.freezing.state import freeze_exactly, freeze_state
from course_lib.freezing.wrappers import PlainNames
from course_lib.text import counted, few
from course_lib.weights.errors import LoadError

State = dict[str, Any]
_AS_SAVED = "Build the model as in the saved run."


def take(model: nn.Module) -> tuple[State, State]:
    """A model's state dict and, beside it, what else its next steps depend on.

    Returns:
        Both under plain names; they hold the model's own tensors, not copies.
    """
    names, inventory, entries = PlainNames.of(model), Inventory.of(model), model.state_dict()
    tensors: OrderedDict[str, Any] = OrderedDict()
    lazy: dict[str, bool] = {}
    for key, each in entries.items():
        name = names.of_name(key)
        if isinstance(each, torch.Tensor) and is_lazy(each):
            lazy[name] = isinstance(each, nn.Parameter)
        else:
            tensors[name] = each
    versions = {names.of_name(k): each for k, each in getattr(entries, "_metadata", {}).items()}
    tensors._metadata = versions  # type: ignore[attr-defined]
    parameters = {names.of_name(n): slot.tensor for n, slot in inventory.parameters.items()}
    frozen = freeze_state(model)
    return tensors, {
        "lazy": lazy,
        "buffers": {names.of_name(name): each for name, each in _unsaved(inventory).items()},
        "frozen": [name for name, each in parameters.items() if not each.requires_grad],
        "gradients": {name: p.grad for name, p in parameters.items() if p.grad is not None},
        "modules": {name: list(map(_mode, layers)) for name, layers in names.layers.items()},
        "held_parameters": frozen["parameters"],
        "held_buffers": frozen["buffers"],
    }


def give(model: nn.Module, tensors: State, beside: State) -> tuple[str, ...]:
    """Bring a model to the state that :func:`take` took of one of the same architecture.

    Returns:
        What only one of the two has, though it has no place in a state dict: modules without
        tensors, buffers that aren't persistent. These are left alone.

    Raises:
        LoadError: another architecture or other types. The model may be changed in part.
        FreezingError, UnknownNameError: it can't be frozen as it was; likewise.
    """
    names = PlainNames.of(model)
    _load(model, names, tensors, beside["lazy"])
    inventory = Inventory.of(model)
    buffers = _unsaved(inventory)
    here = names.real(buffers)
    for name in here.keys() & beside["buffers"].keys():
        _set_buffer(inventory.buffers[here[name]], beside["buffers"][name])
    _freeze(model, names, inventory, beside)
    frozen = set(beside["frozen"])
    for name, slot in inventory.parameters.items():
        plain, parameter = names.of_name(name), slot.tensor
        wanted = plain not in frozen
        if parameter.requires_grad != wanted:
            parameter.requires_grad_(wanted)
        gradient = beside["gradients"].get(plain)
        parameter.grad = gradient.to(parameter.device) if gradient is not None else None
    alone = (here.keys() ^ beside["buffers"].keys()) | (names.layers.keys() ^ beside["modules"])
    return tuple(sorted(alone))


def _mode(module: nn.Module) -> tuple[bool, bool, bool]:
    """Its mode, whether it is held as a module, and the mode that it would have if it weren't."""
    record = hold_of(module)
    held = record is not None and record.inference
    return module.training, is_whole(module), record.mode if record and held else module.training


def _unsaved(inventory: Inventory) -> dict[str, torch.Tensor]:
    """The buffers that a state dict leaves out, by name."""
    return {
        name: slot.tensor
        for name, slot in inventory.buffers.items()
        if slot.key in getattr(slot.owner, "_non_persistent_buffers_set", ())
        and not is_lazy(slot.tensor)
    }


@torch.no_grad()
def _set_buffer(slot: Any, value: torch.Tensor) -> None:
    old = slot.tensor
    if (old.shape, old.dtype, old.layout) == (value.shape, value.dtype, value.layout):
        old.copy_(value)  # others may look at the same memory
    else:  # a cache that grows
        slot.owner._buffers[slot.key] = value.to(old.device)


def _load(model: nn.Module, names: PlainNames, tensors: State, lazy: Mapping[str, bool]) -> None:
    """Through the model's own ``load_state_dict``, and see that no type was changed by it."""
    known = names.real(model.state_dict())
    state = OrderedDict((known.get(k) or names.of_entry(k), each) for k, each in tensors.items())
    for name, parameter in lazy.items():
        kind = UninitializedParameter if parameter else UninitializedBuffer
        state[known.get(name) or names.of_entry(name)] = kind()
    versions = getattr(tensors, "_metadata", {})
    state._metadata = {  # type: ignore[attr-defined]
        name: versions[plain] for name, plain in names.plain.items() if plain in versions
    }
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise LoadError(
            _other_names({*tensors, *lazy}, set(known))
            or _other_shapes(state, model.state_dict())
            or f"{' '.join(str(error).split())} {_AS_SAVED}"
        ) from error
    for name, value in model.state_dict().items():
        saved = state[name]
        if isinstance(value, torch.Tensor) and not is_lazy(value) and value.dtype != saved.dtype:
            raise LoadError(
                f"{names.of_name(name)!r} is {saved.dtype} in the file and {value.dtype} in the "
                "model, and a conversion would cost the same bits. Build the model with the types "
                "of the saved run, such as model.to(torch.bfloat16)."
            )


def _other_names(theirs: set[str], mine: set[str]) -> str:
    """How the file's names differ from the model's; empty if they don't."""
    missing, unexpected = sorted(mine - theirs), sorted(theirs - mine)
    if not missing and not unexpected:
        return ""
    for one, other, whose in ((theirs, mine, "file"), (mine, theirs, "model")):
        prefix = _prefix(one, other)
        if prefix:
            return (
                f"All names in the {whose} begin with {prefix!r}, and without it they are those of "
                f"the {'model' if whose == 'file' else 'file'}. Resume the same module that was "
                f"saved: {prefix[:-1]!r}, or the one that it is a part of."
            )
    parts = []
    if missing:
        parts.append(f"the file has nothing for {len(missing)}: {few(missing, 3)}")
    if unexpected:
        parts.append(f"the model has no place for {len(unexpected)}: {few(unexpected, 3)}")
    return (
        f"{counted(len(mine & theirs), 'entry fits', 'entries fit')} by name, but "
        f"{'; '.join(parts)}. {_AS_SAVED}"
    )


def _prefix(long: set[str], short: set[str]) -> str:
    """What all ``long`` names begin with and the ``short`` ones lack, otherwise equal."""
    for name in short:
        ends = [each for each in long if each.endswith(f".{name}")]
        for each in ends:
            prefix = each.removesuffix(name)
            if {prefix + other for other in short} == long:
                return prefix
        break
    return ""


def _other_shapes(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    both = [(name, saved[name], each) for name, each in mine.items() if name in saved]
    shaped = [(n, a, b) for n, a, b in both if isinstance(a, torch.Tensor) and not is_lazy(b)]
    odd = [
        f"{name!r} has the shape {tuple(one.shape)} in the file and {tuple(other.shape)} here"
        for name, one, other in shaped
        if not is_lazy(one) and one.shape != other.shape
    ]
    return f"{few(odd, 3, '; ')}. {_AS_SAVED}" if odd else ""


def _freeze(model: nn.Module, names: PlainNames, inventory: Inventory, beside: State) -> None:
    """Hold what was held, let go what wasn't, and set each module's mode."""
    records: list[tuple[nn.Module, tuple[bool, bool, bool]]] = []
    for plain, layers in names.layers.items():
        saved = beside["modules"].get(plain, [])
        if len(saved) != len(layers):  # in other wrappers: all are as the innermost was
            saved = saved[-1:] * len(layers)
        records += zip(layers, saved, strict=False)
    parameters, buffers = names.real(inventory.parameters), names.real(inventory.buffers)
    freeze_exactly(
        model,
        [module for module, (_, is_held, _) in records if is_held],
        {parameters[name]: flag for name, flag in beside["held_parameters"].items()},
        [buffers[name] for name in beside["held_buffers"]],
    )
    for module, (training, _, mode) in records:
        record = hold_of(module)
        if record is not None and record.inference:
            record.mode = mode
        module.training = training
