"""Put a new layer around a layer of a model, by name, and take it out again.

The layer inside keeps its ``Parameter`` objects, flags and hooks; only its place in the model
changes, from ``blocks.0.fc`` to ``blocks.0.fc.base``. So what :func:`remove` gives back is what was
there before.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

from course_lib.errors import CourseError
from course_lib.freezing.select import Names, select


class StrategyError(CourseError, ValueError):
    """A strategy doesn't fit the model or the data; nothing was changed."""


class Insert(nn.Module):
    """A layer around another one.

    Args:
        base: the layer inside.
    """

    NEW: tuple[str, ...] = ()  # attributes that hold what was added

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base


Made = TypeVar("Made", bound=Insert)


def wrap(
    model: nn.Module,
    names: Names,
    fits: tuple[type[nn.Module], ...],
    make: Callable[[Any], Insert],
) -> list[str]:
    """Put a layer around every named one: all of them or none.

    Args:
        model: any model.
        names: as for :func:`course_lib.freezing.freeze`; of what lies below a named module, the
            layers that fit.
        fits: kinds of layers to go around.
        make: from a layer to the one around it.

    Returns:
        The names of what was added, in model order: what is to train.

    Raises:
        UnknownNameError: a name stands for nothing.
        StrategyError: no layer that fits is among the named ones, one is wrapped already or stands
            in two places, or ``make`` refuses.
    """
    found = {
        name: module for name, module in select(model, names).modules.items()
        if isinstance(module, fits) and name
    }  # fmt: skip
    kinds = " or ".join(each.__name__ for each in fits)
    if not found:
        raise StrategyError(
            f"No {kinds} layer is among the named ones. Name such layers, modules that have some, "
            "or a pattern, such as 'blocks.*.attn.qkv'."
        )
    if len({id(each) for each in found.values()}) < len(found):
        raise StrategyError("A named layer stands in two places of the model. Name one of them.")
    inside = {id(part) for _, each in inserts(model, Insert) for part in each.modules()}
    for name, module in found.items():
        if id(module) in inside:
            raise StrategyError(f"{name} is part of an insert already. Remove that one first.")
    made = {name: make(module) for name, module in found.items()}
    for name, insert in made.items():
        insert.train(insert.base.training)
        model.set_submodule(name, insert)
    return [f"{name}.{part}" for name, insert in made.items() for part in insert.NEW]


def inserts(model: nn.Module, kind: type[Made]) -> list[tuple[str, Made]]:
    """The names and layers of that kind in a model, in model order."""
    return [(name, each) for name, each in model.named_modules() if isinstance(each, kind)]


def remove(model: nn.Module, kind: type[Insert] = Insert) -> list[str]:
    """Put every layer inside an insert back into its place; what was added is dropped.

    Args:
        model: with inserts or without.
        kind: which to remove; all by default.

    Returns:
        The names of the layers that are back.
    """
    found = inserts(model, kind)
    for name, insert in reversed(found):  # an insert in another one comes after it
        model.set_submodule(name, insert.base)
    return [name for name, _ in found]


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters that train, by name: what has to be saved of a frozen network.

    ``load_state_dict(..., strict=False)`` of a model with the same inserts takes them.
    """
    return {
        name: each.detach().clone() for name, each in model.named_parameters() if each.requires_grad
    }


def count(tensors: Iterable[Tensor]) -> int:
    """How many numbers they have."""
    return sum(each.numel() for each in tensors)
