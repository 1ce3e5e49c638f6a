"""The freeze state beside a checkpoint: flags and modes are not part of a ``state_dict``."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from course_lib.errors import UnknownNameError, suggest
from course_lib.freezing.core import check_can_freeze, hold_all, release_all
from course_lib.freezing.hold import frozen_flags, hold, is_held, is_whole, settle
from course_lib.freezing.report import FreezeReport
from course_lib.freezing.select import FreezingError, Inventory, select
from course_lib.freezing.wrappers import PlainNames

VERSION = 1


def freeze_state(model: nn.Module) -> dict[str, Any]:
    """What is frozen in ``model``, as plain dictionaries, lists, strings and booleans.

    Wrappers leave no trace in the names: ``DataParallel``, ``DistributedDataParallel`` and
    ``torch.compile``, around the model or a part of it.

    Save it next to the weights; it can be stored as JSON and read by
    ``torch.load(weights_only=True)``:

    >>> torch.save({"model": model.state_dict(), "frozen": freeze_state(model)}, path)
    """
    inventory, names = Inventory.of(model), PlainNames.of(model)
    flags, plain = frozen_flags(inventory), names.of_name
    parameters = inventory.parameters.items()
    return {
        "version": VERSION,
        "modules": [name for name, layers in names.layers.items() if is_whole(layers[-1])],
        "parameters": {
            plain(n): flags[id(s.tensor)] for n, s in parameters if id(s.tensor) in flags
        },
        "buffers": [plain(name) for name, slot in inventory.buffers.items() if is_held(slot)],
    }


def restore_freeze_state(model: nn.Module, state: Mapping[str, Any]) -> FreezeReport:
    """Make exactly that frozen in ``model`` which was when ``freeze_state`` was called.

    What is frozen now and wasn't then is unfrozen. ``requires_grad`` after a later ``unfreeze`` is
    as it was before the freeze that was saved; a module's mode then is the one of this model. It
    may be wrapped in other ways than the saved one, or not at all.

    Raises:
        UnknownNameError: the state names something that this model lacks.
        FreezingError: not a freeze state. Nothing has been changed.
    """
    modules, flags, buffers = _read(state)
    inventory, names = Inventory.of(model), PlainNames.of(model)
    real_parameters, real_buffers = names.real(inventory.parameters), names.real(inventory.buffers)
    for given, known in (
        (modules, names.layers), (flags, real_parameters), (buffers, real_buffers)
    ):  # fmt: skip
        for name in given:
            if name not in known:
                raise UnknownNameError(
                    f"The saved freeze state names {name!r}, which this model lacks."
                    + suggest(name, known)
                    + " It belongs to another architecture. Nothing was changed."
                )
    return freeze_exactly(
        model,
        [module for name in modules for module in names.layers[name]],
        {real_parameters[name]: flag for name, flag in flags.items()},
        [real_buffers[name] for name in buffers],
    )


def freeze_exactly(
    model: nn.Module, modules: list[nn.Module], flags: dict[str, bool], buffers: list[str]
) -> FreezeReport:
    """Freeze these and unfreeze all others.

    Args:
        model: whose they are.
        modules: held whole.
        flags: name of a parameter, as it is in this model -> ``requires_grad`` once unfrozen.
        buffers: likewise.

    Raises:
        FreezingError: it can't be frozen. Nothing has been changed.
    """
    inventory = Inventory.of(model)
    wanted = select(model, [*flags, *buffers])
    check_can_freeze(wanted)

    release_all(select(model, model))
    hold_all(wanted)
    places = inventory.slots_by_tensor()
    for name, flag in flags.items():
        for place in places[id(inventory.parameters[name].tensor)]:
            hold(place.owner).flags[place.key] = flag
    for module in modules:
        hold(module).whole = True
        settle(module)
    held = {id(module) for module in modules}
    names = [name for name, module in inventory.modules.items() if id(module) in held]
    return FreezeReport.of("froze", wanted, names, flags, buffers)


def _read(state: Mapping[str, Any]) -> tuple[list[str], dict[str, bool], list[str]]:
    fine = (
        isinstance(state, Mapping)
        and state.get("version") == VERSION
        and isinstance(state.get("modules"), list)
        and isinstance(state.get("parameters"), dict)
        and isinstance(state.get("buffers"), list)
        and all(isinstance(flag, bool) for flag in state["parameters"].values())
    )
    if not fine:
        raise FreezingError(
            f"This is no freeze state (version {VERSION}), as freeze_state() returns it."
        )
    return list(state["modules"]), dict(state["parameters"]), list(state["buffers"])
