"""The five ways the sources freeze, side by side behind one small interface.

Each does what the method is *meant* to do: whole layers, weights and biases, and everything the
sources' snippets slip on put right. What is left is the method's own limit, said in its docstring.
**None of the first four stops BatchNorm's running statistics**; the fifth, done with this course's
``freeze``, does.

One loop runs all five:

>>> for method in (Method() for Method in METHODS):
...     model = build()
...     method.freeze(model, "fc1")
...     optimizer = method.make_optimizer(model, lambda params: torch.optim.SGD(params, lr=0.1))
...     for batch in batches:
...         method.step(model, optimizer, lambda model: loss_of(model, batch))
...     method.unfreeze(model, optimizer)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib.freezing import children
from course_lib.freezing.optimizers import held_by
from course_lib.freezing.select import FreezingError, Names, Selection, select
from course_lib.text import few

BuildOptimizer = Callable[[list[nn.Parameter]], Optimizer]
ComputeLoss = Callable[[nn.Module], torch.Tensor]


class Method(ABC):
    """One way of freezing: ``freeze``, ``make_optimizer``, any number of ``step``, ``unfreeze``.

    An object of it remembers what the method needs to know of one model.
    """

    title: ClassVar[str]
    frozen: Sequence[torch.Tensor] = ()

    @abstractmethod
    def freeze(self, model: nn.Module, names: Names) -> None:
        """Freeze the named parts of ``model`` in this method's way."""

    def make_optimizer(self, model: nn.Module, build: BuildOptimizer) -> Optimizer:
        """Build the optimizer over the parameters that this method hands to it: here, all."""
        return build(list(model.parameters()))

    def step(self, model: nn.Module, optimizer: Optimizer, compute_loss: ComputeLoss) -> float:
        """One training step; returns the loss before it."""
        optimizer.zero_grad()
        loss = compute_loss(model)
        loss.backward()
        optimizer.step()
        return loss.item()

    @abstractmethod
    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Let the frozen parts train again; ``group`` are options of a new parameter group."""

    def _release(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        """Add to the optimizer what it lacks. By identity: a twin of equal value is another."""
        held = held_by(optimizer)
        missing = [parameter for parameter in self.frozen if id(parameter) not in held]
        if missing:
            optimizer.add_param_group({"params": missing, **group})
        self.frozen = []


class RequiresGrad(Method):
    """Method 1: ``requires_grad = False``, and only trainable parameters for the optimizer.

    Saves the gradients of the frozen layers, and all of the backward pass below them if nothing
    trains there.

    Limits: buffers move; dropout stays on; a gradient that is there already (freezing in the
    middle of training, in an optimizer that holds the parameter) still moves it.
    """

    title = "requires_grad = False"

    def freeze(self, model: nn.Module, names: Names) -> None:
        """Switch ``requires_grad`` off, for weights and biases alike."""
        self.frozen = _parameters(select(model, names))
        for parameter in self.frozen:
            parameter.requires_grad = False

    def make_optimizer(self, model: nn.Module, build: BuildOptimizer) -> Optimizer:
        """Build the optimizer over what requires a gradient."""
        return build([parameter for parameter in model.parameters() if parameter.requires_grad])

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Switch ``requires_grad`` on and add the parameters to the optimizer."""
        for parameter in self.frozen:
            parameter.requires_grad = True
        self._release(optimizer, group)


class LeftOut(Method):
    """Method 2: leave the parameters out of the optimizer.

    Limits: every gradient is still computed, so no time is saved; ``optimizer.zero_grad()``
    doesn't reach them, so they pile up, and the first step after unfreezing takes the sum of all;
    clipping over ``model.parameters()`` counts them too. Buffers move.
    """

    title = "left out of the optimizer"

    def freeze(self, model: nn.Module, names: Names) -> None:
        """Remember what to leave out; the optimizer is built afterwards."""
        self.frozen = _parameters(select(model, names))

    def make_optimizer(self, model: nn.Module, build: BuildOptimizer) -> Optimizer:
        """Build the optimizer over all other parameters."""
        left_out = {id(parameter) for parameter in self.frozen}
        return build(
            [parameter for parameter in model.parameters() if id(parameter) not in left_out]
        )

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Add the parameters to the optimizer, with the gradients that have piled up."""
        self._release(optimizer, group)


class CachedAndRestored(Method):
    """Method 3: keep a copy of the parameters and put it back after every optimizer step.

    The copies are clones and are copied back in place: a "copy" that shares memory with the layer
    (``p.data``, an entry of ``state_dict()``) would hold the moved values.

    Limits: twice the memory, a copy a step, and no gradient saved; the optimizer's momentum moves
    all the while, so the layer jumps when it is let go. Buffers move.
    """

    title = "cached and restored"
    cache: Sequence[torch.Tensor] = ()

    def freeze(self, model: nn.Module, names: Names) -> None:
        """Copy the parameters."""
        self.frozen = _parameters(select(model, names))
        self.cache = [parameter.detach().clone() for parameter in self.frozen]

    def step(self, model: nn.Module, optimizer: Optimizer, compute_loss: ComputeLoss) -> float:
        """One training step, then the copies go back."""
        loss = super().step(model, optimizer, compute_loss)
        with torch.no_grad():
            for parameter, copy in zip(self.frozen, self.cache, strict=True):
                parameter.copy_(copy)
        return loss

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Drop the copies."""
        self.cache = []
        self._release(optimizer, group)


class NoGradForward(Method):
    """Method 4: run the frozen modules' ``forward`` under ``torch.no_grad()``.

    The parameters get no gradient at all (None), which every optimizer skips. Only modules can be
    frozen so, not single parameters.

    Limits: the gradient to everything *before* the block is cut too, so those layers stand still
    unless a path goes round the block (a residual connection: then they train on half the truth);
    the last layer can't be frozen, since nothing would be left to differentiate; a gradient that
    is there already still moves the layer. Buffers move: ``no_grad`` isn't ``eval``.
    """

    title = "no_grad in forward"
    wrapped: Sequence[nn.Module] = ()

    def freeze(self, model: nn.Module, names: Names) -> None:
        """Wrap the ``forward`` of the named modules.

        Raises:
            FreezingError: a parameter was named without its module. Nothing has been changed.
        """
        selection = select(model, names)
        modules = list({id(module): module for module in selection.modules.values()}.values())
        covered = {id(parameter) for module in modules for parameter in module.parameters()}
        alone = [n for n, slot in selection.parameters.items() if id(slot.tensor) not in covered]
        if alone:
            raise FreezingError(
                f"no_grad works on whole modules: {few(alone)} can't be frozen alone. "
                "Name the module."
            )
        self.frozen, self.wrapped = _parameters(selection), modules
        for module in modules:
            module.__dict__["forward"] = partial(_forward_without_gradient, module)

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Take the wrapping off."""
        for module in self.wrapped:
            module.__dict__.pop("forward", None)
        self.wrapped = []
        self._release(optimizer, group)


class ByNamesAndIndices(Method):
    """Method 5: helpers over the direct children, by names or by indices.

    The sources' helpers set ``requires_grad`` on the children they find. These are this course's:
    they hold buffers as well, and drop stale gradients.

    Limit: direct children only. For anything deeper there is ``freeze`` itself.
    """

    title = "by names and indices"
    chosen: Any = ()

    def freeze(self, model: nn.Module, names: Any) -> None:
        """Freeze the direct children named, or those at the given indices."""
        alone = isinstance(names, str) or not isinstance(names, Iterable)
        self.chosen = names if alone else [*names]
        by_names, by_idxs = children.freeze_by_names, children.freeze_by_idxs
        (by_names if _are_names(self.chosen) else by_idxs)(model, self.chosen)

    def unfreeze(self, model: nn.Module, optimizer: Optimizer, **group: Any) -> None:
        """Unfreeze the same children and add them to the optimizer if it lacks them."""
        by_names, by_idxs = children.unfreeze_by_names, children.unfreeze_by_idxs
        (by_names if _are_names(self.chosen) else by_idxs)(model, self.chosen, optimizer, **group)
        self.chosen = ()


METHODS: tuple[type[Method], ...] = (
    RequiresGrad, LeftOut, CachedAndRestored, NoGradForward, ByNamesAndIndices,
)  # fmt: skip


def _parameters(selection: Selection) -> list[torch.Tensor]:
    """The selected parameters; a tied one counts once."""
    found = {id(slot.tensor): slot.tensor for slot in selection.parameters.values()}
    return list(found.values())


def _forward_without_gradient(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with torch.no_grad():
        return type(module).forward(module, *args, **kwargs)


def _are_names(chosen: Any) -> bool:
    several = chosen if isinstance(chosen, list | tuple) else [chosen]
    return all(isinstance(each, str) for each in several)
