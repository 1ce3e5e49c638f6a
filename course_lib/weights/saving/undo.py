"""Put model, optimizer and the rest back as they were, when a run can't be resumed after all."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from course_lib.freezing.hold import ATTRIBUTE, hold_of

Undo = Callable[[], object]


@contextmanager
def undone_on_error(undos: list[Undo]) -> Iterator[None]:
    """Call all of these if anything in the block fails, an interruption included."""
    try:
        yield
    except BaseException:
        with ExitStack() as stack:  # each is called, even if another one fails
            for undo in undos:
                stack.callback(undo)
        raise


def of_model(model: nn.Module) -> Undo:
    """What brings back a model's values, gradients, flags, modes, holds and extra state."""
    plain = [each for m in model.modules() for each in vars(m).values() if _can_change(each)]
    kept = [each for each in (*model.parameters(), *model.buffers()) if _can_change(each)]
    tensors = {id(each): each for each in (*kept, *plain)}
    undos = [_of_tensor(each) for each in tensors.values()]
    undos += [_of_module(module) for module in model.modules()]
    return lambda: [undo() for undo in undos]


def of_optimizer(optimizer: Optimizer) -> Undo:
    """Its groups and moments: loading makes new ones and leaves these as they are."""
    before = {"param_groups": optimizer.param_groups, "state": optimizer.state}
    return lambda: optimizer.__dict__.update(before)


def of_part(part: Any) -> Undo:
    """Anything with a state dict, such as a scheduler, even of several and of functions."""
    before = copy.deepcopy(part.state_dict())
    parts = [part, *getattr(part, "_schedulers", ())]
    functions = [(each, each.lr_lambdas) for each in parts if hasattr(each, "lr_lambdas")]

    def undo() -> None:
        for each, its in functions:
            each.lr_lambdas = its
        part.load_state_dict(before)

    return undo


def _can_change(each: Any) -> bool:
    """Whether it is a tensor that loading may write to, and that isn't computed from others."""
    if not isinstance(each, torch.Tensor) or is_lazy(each):
        return isinstance(each, torch.Tensor)
    return each.is_leaf and not each.is_inference()


def _of_tensor(tensor: torch.Tensor) -> Undo:
    kind, flag, gradient = type(tensor), tensor.requires_grad, tensor.grad
    value = tensor.data if is_lazy(tensor) else tensor.detach().clone()

    @torch.no_grad()  # not detached: a sparse tensor's twin would get the values alone
    def undo() -> None:
        if kind is not type(tensor):  # a lazy one that got its shape
            tensor.data, tensor.__class__ = value, kind
        elif not is_lazy(tensor) and tensor.shape == value.shape:
            tensor.copy_(value)
        elif not is_lazy(tensor):
            tensor.data = value
        if tensor.requires_grad != flag:
            tensor.requires_grad_(flag)
        tensor.grad = gradient

    return undo


def _tables(module: nn.Module) -> list[dict[str, Any]]:
    return [module._parameters, module._buffers]


def _of_module(module: nn.Module) -> Undo:
    if isinstance(module, torch.jit.ScriptModule):  # whose attributes aren't Python's
        mode = module.training
        return lambda: setattr(module, "training", mode)
    own = dict(module.__dict__)
    tables = [(table, dict(table)) for table in _tables(module)]
    record = hold_of(module)
    if record is not None:
        own[ATTRIBUTE] = replace(
            record, flags=dict(record.flags), buffers=set(record.buffers),
            shadowed=dict(record.shadowed),
        )  # fmt: skip
    speaks = type(module).get_extra_state is not nn.Module.get_extra_state
    extra = copy.deepcopy(module.get_extra_state()) if speaks else None

    def undo() -> None:
        module.__dict__.clear()
        module.__dict__.update(own)
        for table, before in tables:
            table.clear()
            table.update(before)
        if speaks:
            module.set_extra_state(extra)

    return undo
