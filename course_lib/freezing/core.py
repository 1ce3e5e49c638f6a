"""``freeze`` and ``unfreeze``: bit-exact, surviving ``train()``, undone without a trace."""

import warnings
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from course_lib.errors import CourseWarning
from course_lib.freezing import report as say
from course_lib.freezing.hold import frozen_flags, hold, is_held, is_whole, settle
from course_lib.freezing.optimizers import plan_group
from course_lib.freezing.report import FreezeReport
from course_lib.freezing.select import FreezingError, Inventory, Names, Selection, Slot, select


def freeze(model: nn.Module, names: Names) -> FreezeReport:
    """Hold the named parts of ``model`` fixed until ``unfreeze`` lets them go.

    From now on, whatever the optimizer and whatever calls of ``model.train()``, every parameter
    and buffer named is bit-identical after any number of steps, and every module named computes
    as in inference: BatchNorm on its running statistics, dropout off. Gradients still pass
    *through* a frozen module to what lies before it.

    Args:
        model: any ``nn.Module``.
        names: one name or several: dotted module names, parameter names, buffer names, shell
            patterns, or modules and tensors of the model (see ``course_lib.freezing.select``).
            ``[]`` freezes nothing.

    Returns:
        A report of what was frozen, other names of the same tensors, and notes.

    Raises:
        UnknownNameError, FreezingError: nothing has been changed.

    Notes:
        * Gradients that the parameters hold are dropped for good: a stale one would move them at
          the next step, and given back later it would be staler still. So freezing in the middle
          of an accumulation loses what these parameters had gathered, and nothing else.
        * A tensor is frozen, not a name: tied weights freeze together, and the report says so.
        * A parameter named on its own freezes alone; its module keeps its mode. A buffer named on
          its own puts the module that owns it in inference mode, since it is training mode that
          writes buffers; the parameters of that module go on training.
        * BatchNorm without running statistics has nothing but the batch to normalise by, frozen or
          not; the report says so. Frozen running statistics stay as they are through
          ``torch.optim.swa_utils.update_bn`` too, which would set them to zero, with a warning.
        * Freezing twice is freezing once. Flags that were off before stay off after unfreezing.
        * Freeze before wrapping in ``DistributedDataParallel``, and wrap again after a change.
          ``DataParallel`` on several GPUs copies modules in a way of its own, which layers that
          compute on copies of their buffers (see ``hold``) don't survive.
        * What an optimizer knows is its own: ``LBFGS`` moves all its parameters along one joint
          direction, so make a new one after freezing. Assigning ``module.training = True`` or
          ``requires_grad = True`` by hand undoes the freeze; ``audit`` shows it.
    """
    selection = select(model, names)
    check_can_freeze(selection)

    before = frozen_flags(selection.inventory)
    modules = [name for name, module in selection.modules.items() if not is_whole(module)]
    parameters = [n for n, slot in selection.parameters.items() if id(slot.tensor) not in before]
    buffers = [name for name, slot in selection.buffers.items() if not is_held(slot)]

    hold_all(selection)

    notes = (*say.shared(selection), *say.moving_statistics(selection))
    notes += (*say.batch_statistics(selection), *say.wrapped(model))
    return FreezeReport.of("froze", selection, modules, parameters, buffers, notes)


def unfreeze(
    model: nn.Module,
    names: Names,
    optimizer: Optimizer | None = None,
    *,
    scheduler: Any = None,
    **group: Any,
) -> FreezeReport:
    """Let the named parts of ``model`` train again, just as they were before ``freeze``.

    The same ``Parameter`` objects get the ``requires_grad`` they had; modules get the mode they
    would have by now without freezing. What was not frozen by ``freeze`` is left as it is.

    Args:
        model: the model that was frozen, or one that contains it.
        names: as for ``freeze``; a part of what was frozen will do.
        optimizer: when given, thawed parameters which it doesn't hold yet are added to it, as one
            new group, each once. Moments it kept for thawed parameters are dropped: they are
            stale. Stale gradients go in any case.
        scheduler: the learning-rate scheduler of this optimizer, if there is one: you are warned
            when it doesn't know the new group. Without it, a sign of a scheduler on the optimizer
            is enough for the warning.
        **group: options of the new group, such as ``lr=1e-4``; the others are the optimizer's
            defaults.

    Raises:
        UnknownNameError, FreezingError: also when the optimizer holds no parameter of this model
            or doesn't know an option. Nothing has been changed.
    """
    selection = select(model, names)
    before = frozen_flags(selection.inventory)
    modules = [name for name, module in selection.modules.items() if is_whole(module)]
    parameters = [n for n, slot in selection.parameters.items() if id(slot.tensor) in before]
    buffers = [name for name, slot in selection.buffers.items() if is_held(slot)]

    trainable = {
        name: slot.tensor
        for name, slot in selection.parameters.items()
        if before.get(id(slot.tensor), slot.tensor.requires_grad)
    }
    plan = plan_group(selection.inventory, optimizer, trainable, group, scheduler)
    plan.apply()  # first, since it is the only part that torch may still refuse

    release_all(selection)
    for name in parameters:
        plan.forget(selection.parameters[name].tensor)

    off = [name for name in selection.parameters if name not in trainable]
    for warning in (*plan.warnings, *say.still_off(off, parameters, optimizer)):
        warnings.warn(warning, CourseWarning, stacklevel=2)
    notes = (*say.still_held(selection, buffers), *say.off_before(off, parameters))
    notes += (*say.shared(selection), *say.wrapped(model))
    return FreezeReport.of("unfroze", selection, modules, parameters, buffers, notes, plan.added)


def frozen_names(model: nn.Module) -> list[str]:
    """Names of all parameters and buffers of ``model`` that ``freeze`` holds, in model order."""
    inventory = Inventory.of(model)
    held = [*inventory.parameters.values(), *inventory.buffers.values()]
    return [slot.name for slot in held if is_held(slot)]


def hold_all(selection: Selection) -> None:
    """Freeze a selection that has been checked. Doing it twice changes nothing more."""
    before = frozen_flags(selection.inventory)
    places = selection.inventory.slots_by_tensor()
    for module in selection.modules.values():
        hold(module).whole = True
    for slot in selection.buffers.values():
        hold(slot.owner).buffers.add(slot.key)
    for slot in selection.parameters.values():
        tensor = slot.tensor
        flag = before.setdefault(id(tensor), tensor.requires_grad)
        for place in places[id(tensor)]:
            hold(place.owner).flags[place.key] = flag
        tensor.requires_grad_(False)
        tensor.grad = None
    _settle_all(selection, places)


def release_all(selection: Selection) -> None:
    """Unfreeze a selection: what isn't frozen by ``freeze`` stays as it is."""
    before = frozen_flags(selection.inventory)
    places = selection.inventory.slots_by_tensor()
    for slot in selection.parameters.values():
        tensor = slot.tensor
        if id(tensor) in before:
            for place in places[id(tensor)]:
                hold(place.owner).flags.pop(place.key, None)
            tensor.requires_grad_(before[id(tensor)])
            tensor.grad = None
    for module in selection.modules.values():
        hold(module).whole = False
    for slot in selection.buffers.values():
        record = hold(slot.owner)
        record.buffers.discard(slot.key)
        # Statistics move together or not at all: with its last buffer a module leaves inference.
        record.whole = record.whole and bool(record.buffers)
    _settle_all(selection, places)


def check_can_freeze(selection: Selection) -> None:
    """See that the selected tensors can be frozen, before anything is changed.

    Raises:
        FreezingError: a tensor has no values yet, or is computed from others.
    """
    for slot in (*selection.parameters.values(), *selection.buffers.values()):
        tensor = slot.tensor
        if is_lazy(tensor):
            raise FreezingError(
                f"{slot.name} has no shape and no values yet: its module is lazy. "
                "Run one batch through the model, then freeze."
            )
        if not tensor.is_leaf and slot.key in slot.owner._parameters:
            raise FreezingError(
                f"{slot.name} was computed from other tensors, so it is no parameter that "
                "training could move. Freeze the tensors that it is computed from."
            )


def _settle_all(selection: Selection, places: dict[int, list[Slot]]) -> None:
    owners = [slot.owner for slot in selection.buffers.values()]
    for slot in selection.parameters.values():
        owners += [place.owner for place in places[id(slot.tensor)]]
    for module in (*selection.modules.values(), *owners):
        settle(module)
