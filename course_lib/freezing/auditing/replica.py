"""A copy of model and optimizer to run a step on, and a guard around the originals."""

import copy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib.freezing.bits import same_bits


def replica(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
    """Copy both together, so that the optimizer's copy holds the parameters of the model's copy.

    ``copy.deepcopy`` leaves out more than one expects: gradients and hooks of parameters, and of
    an optimizer everything but its groups and state. This puts them in. Left out on purpose: hooks
    that run when a gradient has been accumulated, since they step optimizers of their own.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            # Old-style weight norm keeps a computed weight there, which torch refuses to copy.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    new_model = copy.deepcopy(model, memo)
    new_optimizer = type(optimizer).__new__(type(optimizer))
    memo[id(optimizer)] = new_optimizer
    # A scheduler hides the class's step behind one of its own, bound to the original.
    own = {key: value for key, value in vars(optimizer).items() if key != "step"}
    new_optimizer.__dict__.update(copy.deepcopy(own, memo))

    held = (tensor for group in optimizer.param_groups for tensor in group["params"])
    for tensor in (*model.parameters(), *held):
        _complete(memo[id(tensor)], tensor)
    return new_model, new_optimizer


def _complete(new: torch.Tensor, old: torch.Tensor) -> None:
    if old.grad is not None and new.grad is None:
        new.grad = old.grad.detach().clone()
    if not new._backward_hooks:
        for hook in (old._backward_hooks or {}).values():
            new.register_hook(hook)


class Guard:
    """Remembers model and optimizer, and puts back whatever a step did to them all the same.

    A step works on what it is handed. One that reaches for the originals by another way (a
    variable of the notebook, a scheduler bound to the original optimizer) is found out here.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        tensors = [*model.parameters(), *model.buffers()]
        self.values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self.grads = [(p, p.grad, _clone(p.grad)) for p in model.parameters()]
        self.flags = [(p, p.requires_grad) for p in model.parameters()]
        self.modes = [(module, module.training) for module in model.modules()]
        self.groups = [dict(group) for group in optimizer.param_groups]
        self.state = {
            tensor: {key: (value, _clone(value)) for key, value in entry.items()}
            for tensor, entry in optimizer.state.items()
        }

    def put_back(self) -> list[str]:
        """Restore what has changed; returns what that was, in words."""
        found: list[str] = []
        with torch.no_grad():
            for tensor, value in self.values:
                if not same_bits(tensor, value):
                    found.append("values of the model")
                    tensor.copy_(value)
            for tensor, grad, value in self.grads:
                if tensor.grad is not grad or not _same(grad, value):
                    found.append("gradients of the model")
                    tensor.grad = _put(grad, value)
        for tensor, flag in self.flags:
            if tensor.requires_grad != flag:
                found.append("requires_grad")
                tensor.requires_grad_(flag)
        for module, mode in self.modes:
            if module.training != mode:
                found.append("training mode")
                module.training = mode
        return list(dict.fromkeys(found + self._put_back_optimizer()))

    def _put_back_optimizer(self) -> list[str]:
        found = []
        groups = self.optimizer.param_groups
        if len(groups) != len(self.groups) or any(
            now.keys() != then.keys()
            or any(not _same(now[key], then[key]) for key in then if key != "params")
            for now, then in zip(groups, self.groups, strict=True)
        ):
            found.append("groups of the optimizer")
            groups[:] = groups[: len(self.groups)]
            for now, then in zip(groups, self.groups, strict=True):
                now.clear()
                now.update(then)
        state = self.optimizer.state
        same = state.keys() == self.state.keys() and all(
            state[tensor].keys() == entry.keys()
            and all(state[tensor][key] is old for key, (old, _) in entry.items())
            and all(_same(old, value) for old, value in entry.values())
            for tensor, entry in self.state.items()
        )
        if not same:
            found.append("state of the optimizer")
            state.clear()
            for tensor, entry in self.state.items():
                state[tensor] = {key: _put(old, value) for key, (old, value) in entry.items()}
        return found


def _clone(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else copy.copy(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return same_bits(one, other)
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return False
    return bool(one == other)


def _put(old: Any, value: Any) -> Any:
    """The old object with its old value."""
    if isinstance(old, torch.Tensor):
        with torch.no_grad():
            old.copy_(value)
        return old
    return value
