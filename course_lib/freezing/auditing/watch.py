"""What is observed while the audited step runs on the copy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointFunction

from course_lib.freezing.bits import address, same_bits


@dataclass
class ModuleSeen:
    """How a module's forward was called during the step."""

    ran: bool = False
    with_gradient: bool = False
    in_training: bool = False
    no_grad: bool = False  # but for the first run in a reentrant checkpoint, which is always so
    cuts: str = ""  # how it loses the gradient of its input, in words


@dataclass
class TensorSeen:
    """What happened to a tensor on the way. Norms are those of the first optimizer step."""

    gradient: float | None = None
    moved_by_optimizer: bool = False
    alias_restored: bool = False
    clip: float | None = None


@dataclass
class Watch:
    """Hooks on the copies; everything that was seen is in ``modules`` and ``tensors``.

    Attributes:
        named: the tensors of the copy, by name.
        start: their values before the step, by name.
        addresses: where their memory was then.
    """

    model: nn.Module
    optimizer: Optimizer
    named: dict[str, torch.Tensor]
    start: dict[str, torch.Tensor]
    modules: dict[str, ModuleSeen] = field(default_factory=dict)
    tensors: dict[str, TensorSeen] = field(default_factory=dict)
    stepped: bool = False

    def __post_init__(self) -> None:
        self.tensors = {name: TensorSeen() for name in self.named}
        self.addresses = {name: address(tensor) for name, tensor in self.named.items()}
        self._untouched: set[str] = set()
        # Outputs that require a gradient, by the address of their memory. Holding on to them keeps
        # the address from being given to another tensor.
        self._outputs: dict[int, torch.Tensor] = {}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Watch while the block runs."""
        handles: list[Any] = []
        for name, module in self.model.named_modules():
            seen = self.modules.setdefault(name, ModuleSeen())
            if not isinstance(module, torch.jit.ScriptModule):
                before = partial(self._before_forward, seen)
                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(module.register_forward_hook(self._after_forward))
        handles.append(self.optimizer.register_step_pre_hook(self._before_step))
        handles.append(self.optimizer.register_step_post_hook(self._after_step))
        try:
            with _Writes(self):
                yield
        finally:
            for handle in handles:
                handle.remove()
            self._outputs.clear()

    def _before_forward(self, seen: ModuleSeen, module: nn.Module, args: Any, kwargs: Any) -> None:
        seen.ran = True
        seen.with_gradient |= torch.is_grad_enabled()
        seen.in_training |= module.training
        if not torch.is_grad_enabled() and _in_reentrant_checkpoint():
            return  # it cuts nothing: the backward pass runs it again, with gradients
        seen.no_grad |= not torch.is_grad_enabled()
        for tensor in _tensors_in((args, kwargs)):
            if not torch.is_grad_enabled() and tensor.requires_grad:
                seen.cuts = "under torch.no_grad()"
            elif torch.is_grad_enabled() and not tensor.requires_grad:
                twin = self._outputs.get(address(tensor))
                if twin is not None and twin.shape.numel() == tensor.shape.numel():
                    seen.cuts = "after a detach()"

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        for tensor in _tensors_in(output):
            if tensor.requires_grad and tensor.numel():
                self._outputs[address(tensor)] = tensor.detach()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for name, tensor in self.named.items():
            if not self.stepped and tensor.grad is not None:
                self.tensors[name].gradient = tensor.grad.detach().float().norm().item()
            if same_bits(tensor, self.start[name]):
                self._untouched.add(name)
        self.stepped = True

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for name in self._untouched:
            if not same_bits(self.named[name], self.start[name]):
                self.tensors[name].moved_by_optimizer = True
        self._untouched.clear()


class _Writes(TorchDispatchMode):
    """Sees two writes that leave no other trace: a copy onto itself, and clipping."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name
        if name == "aten::copy_" and len(args) > 1:
            self._copy(args[0], args[1])
        elif name in ("aten::mul_", "aten::_foreach_mul_"):
            targets = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
            self._scale(targets, args[1])
        return func(*args, **(kwargs or {}))

    def _copy(self, target: torch.Tensor, source: Any) -> None:
        if isinstance(source, torch.Tensor) and address(target) == address(source) != 0:
            for name, tensor in self.watch.named.items():
                if address(tensor) == address(target):
                    self.watch.tensors[name].alias_restored = True

    def _scale(self, targets: Any, factor: Any) -> None:
        if self.watch.stepped or isinstance(factor, (list, tuple)):
            return
        addresses = {address(target) for target in targets}
        for name, tensor in self.watch.named.items():
            if tensor.grad is not None and address(tensor.grad) in addresses:
                self.watch.tensors[name].clip = float(factor)


def _in_reentrant_checkpoint() -> bool:
    """Whether the caller's callers are the first run of a reentrant checkpoint."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _tensors_in(things: Any) -> Iterator[torch.Tensor]:
    if isinstance(things, torch.Tensor):
        if things.is_floating_point() or things.is_complex():
            yield things
    elif isinstance(things, dict):
        for thing in things.values():
            yield from _tensors_in(thing)
    elif isinstance(things, (list, tuple)):
        for thing in things:
            yield from _tensors_in(thing)
