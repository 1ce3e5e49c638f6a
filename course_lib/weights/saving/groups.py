"""An optimizer's groups by the names of their parameters, so that they can be made again."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.optim import LBFGS, Optimizer

from course_lib.freezing.select import Inventory
from course_lib.freezing.wrappers import PlainNames
from course_lib.text import few
from course_lib.weights.errors import CheckpointError, LoadError


def names_of(optimizer: Optimizer, model: nn.Module) -> list[list[str]]:
    """The plain names of an optimizer's parameters, group by group.

    Raises:
        CheckpointError: it has one that isn't the model's, whose values nobody would save.
    """
    known = {id(each): name for name, each in reversed(_parameters(model).items())}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    foreign = [p for p in held if id(p) not in known]
    if foreign:
        raise CheckpointError(
            f"The optimizer holds other parameters than this model's: {len(foreign)} of "
            f"{len(held)} aren't in it, first one of shape {tuple(foreign[0].shape)}. Build it "
            "from the model's parameters; if it is to have more, give one module that has all of "
            "them, such as nn.ModuleDict({'net': ..., 'loss': ...})."
        )
    return [[known[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def regroup(optimizer: Optimizer, model: nn.Module, saved: list[list[str]]) -> tuple[str, ...]:
    """Give an optimizer the groups that the saved one had, of parameters alone.

    Args:
        optimizer: with these groups, or with some of these parameters, as at the first start.
        model: whose parameters they are.
        saved: their plain names, group by group.

    Returns:
        Names of the parameters that the optimizer didn't hold yet.

    Raises:
        LoadError: it holds parameters that the saved one didn't.
        CheckpointError: it holds parameters of another model.
    """
    groups = names_of(optimizer, model)
    if groups == saved:
        return ()
    mine, every = list(chain.from_iterable(groups)), list(chain.from_iterable(saved))
    if isinstance(optimizer, LBFGS):
        raise LoadError(
            "LBFGS works on one group that is fixed when it is built. Build it of the parameters "
            f"of the saved run: {few(every, 3)}."
        )
    surplus = [name for name in mine if name not in set(every)]
    if surplus:
        raise LoadError(
            f"The optimizer holds {len(surplus)} parameters that the saved one didn't: "
            f"{few(surplus, 3)}. Build it as at the first start, of "
            f"{few(every, 3)}; groups that were added later are added here."
        )
    parameters = _parameters(model)
    named = {
        id(p): name
        for group in optimizer.param_groups
        for p, name in zip(group["params"], group.get("param_names", ()), strict=False)
    }
    optimizer.param_groups = [{"params": [parameters[n] for n in group]} for group in saved]
    if named:
        real = {id(slot.tensor): n for n, slot in Inventory.of(model).parameters.items()}
        for group in optimizer.param_groups:
            group["param_names"] = [named.get(id(p), real[id(p)]) for p in group["params"]]
    return tuple(name for name in every if name not in set(mine))


def load(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """``optimizer.load_state_dict``, and each number in the type that it had.

    torch gives all state the type of the parameter, which costs NAdam its product of momenta.
    """
    for group in saved["param_groups"]:
        group.pop("param_names", None)  # those of this optimizer stay
    optimizer.load_state_dict(saved)
    numbers = chain.from_iterable(group["params"] for group in saved["param_groups"])
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for number, parameter in zip(numbers, parameters, strict=True):
        mine = optimizer.state.get(parameter, {})
        for key, value in saved["state"].get(number, {}).items():
            own = mine.get(key)
            if isinstance(own, torch.Tensor) and own.dtype != value.dtype:
                mine[key] = value.to(own.device)


def extend_scheduler(scheduler: Any, state: Mapping[str, Any]) -> None:
    """Let a scheduler of functions know groups that it wasn't built for.

    Functions aren't saved. One function that was given for all groups goes for the new ones too.

    Raises:
        LoadError: each group had a function of its own.
    """
    inner = zip(getattr(scheduler, "_schedulers", ()), state.get("_schedulers", ()), strict=False)
    for each, its in inner:
        extend_scheduler(each, its)
    functions, count = getattr(scheduler, "lr_lambdas", None), len(state.get("lr_lambdas", ()))
    if not functions or count == len(functions):
        return
    if any(each is not functions[0] for each in functions) or count < len(functions):
        raise LoadError(
            f"The {type(scheduler).__name__} has {len(functions)} functions and the saved one had "
            f"{count}, one a group. Make the groups of the saved run first, then the scheduler, "
            "then resume."
        )
    scheduler.lr_lambdas = functions[:1] * count


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    names = PlainNames.of(model)
    slots = Inventory.of(model).parameters.items()
    return {names.of_name(name): slot.tensor for name, slot in slots}  # type: ignore[misc]
