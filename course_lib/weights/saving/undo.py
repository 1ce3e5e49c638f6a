"""Put model, optimizer and the rest back as they were, when a run can't be resumed after all."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib.weights.loading.commit import Before

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
    before = Before(model)
    own = {id(each): each for each in (*model.parameters(), *model.buffers())}
    flags = [(each, each.requires_grad, each.grad) for each in own.values()]
    scripted = [each for each in model.modules() if isinstance(each, torch.jit.ScriptModule)]
    modes = [(each, each.training) for each in scripted]  # not among Python's attributes
    speaking = [
        (each, copy.deepcopy(each.get_extra_state()))
        for each in model.modules()
        if type(each).get_extra_state is not nn.Module.get_extra_state and each not in scripted
    ]

    def undo() -> None:
        before.restore()
        for tensor, flag, gradient in flags:
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
            tensor.grad = gradient
        for script, mode in modes:
            script.training = mode
        for module, extra in speaking:
            module.set_extra_state(extra)

    return undo


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
