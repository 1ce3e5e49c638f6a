"""The sources' four helpers: freeze and unfreeze direct children, by name or by index.

They know the model's own children only (``model.named_children()``), as ``nn.Sequential`` and
small teaching models want it. A bare string is one name; index ``i`` is the ``i``-th registered
child, repeated modules counted, so for an ``nn.Sequential`` it is ``model[i]``; negative indices
count from the end. For dotted names, patterns and parameters there is ``freeze`` itself.
"""

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

from torch import nn
from torch.optim import Optimizer

from course_lib.errors import UnknownNameError, suggest
from course_lib.freezing.core import freeze, unfreeze
from course_lib.freezing.report import FreezeReport
from course_lib.freezing.select import FreezingError, Inventory
from course_lib.text import counted


class ChildIndexError(FreezingError, IndexError):
    """An index beyond the model's children; nothing was changed."""


def freeze_by_names(model: nn.Module, names: str | Iterable[str]) -> FreezeReport:
    """Freeze one direct child or several by name, as ``freeze`` does.

    Raises:
        UnknownNameError, FreezingError: nothing has been changed.
    """
    return freeze(model, _named(model, names))


def unfreeze_by_names(
    model: nn.Module, names: str | Iterable[str], optimizer: Optimizer | None = None, **group: Any
) -> FreezeReport:
    """Unfreeze one direct child or several by name, as ``unfreeze`` does.

    Raises:
        UnknownNameError, FreezingError: nothing has been changed.
    """
    return unfreeze(model, _named(model, names), optimizer, **group)


def freeze_by_idxs(model: nn.Module, idxs: SupportsIndex | Iterable[SupportsIndex]) -> FreezeReport:
    """Freeze one direct child or several by index, as ``freeze`` does.

    Raises:
        ChildIndexError: an index is out of range; the message states the range.
        FreezingError: not an index, or one child given twice. Nothing has been changed.
    """
    return freeze(model, _indexed(model, idxs))


def unfreeze_by_idxs(
    model: nn.Module,
    idxs: SupportsIndex | Iterable[SupportsIndex],
    optimizer: Optimizer | None = None,
    **group: Any,
) -> FreezeReport:
    """Unfreeze one direct child or several by index, as ``unfreeze`` does.

    Raises:
        ChildIndexError, FreezingError: nothing has been changed.
    """
    return unfreeze(model, _indexed(model, idxs), optimizer, **group)


def _children(model: nn.Module) -> list[str]:
    # named_children() leaves out a module's second appearance; model[i] doesn't.
    modules = Inventory.of(model).modules
    return [name for name in model._modules if name in modules]


def _named(model: nn.Module, names: str | Iterable[str]) -> list[str]:
    children = _children(model)
    wanted = [names] if isinstance(names, str) else _as_list(names, "name")
    for name in wanted:
        if isinstance(name, str) and name.strip() and name not in children:
            deeper = " For names inside a child use freeze()." if "." in name else ""
            raise UnknownNameError(
                f"{name!r} is no direct child of this model; those are: {', '.join(children)}."
                + suggest(name, children)
                + deeper
            )
    return wanted  # anything that isn't a name at all is refused by freeze itself


def _indexed(model: nn.Module, idxs: SupportsIndex | Iterable[SupportsIndex]) -> list[str]:
    children = _children(model)
    alone = _position(idxs)
    chosen: list[str] = []
    for idx in [idxs] if alone is not None else _as_list(idxs, "index"):
        position = _position(idx)
        if position is None:
            raise FreezingError(f"{idx!r:.60} is no index; an index is a whole number.")
        if not -len(children) <= position < len(children):
            raise ChildIndexError(
                f"Index {position} is out of range: this model has "
                f"{counted(len(children), 'child', 'children')}"
                + (f", {-len(children)} to {len(children) - 1}." if children else ".")
            )
        if children[position] in chosen:
            raise FreezingError(f"Child {position} ({children[position]!r}) is given twice.")
        chosen.append(children[position])
    return chosen


def _position(idx: Any) -> int | None:
    """``idx`` as an int, or None when it isn't one (True and False are no indices)."""
    try:
        return None if isinstance(idx, bool) else operator.index(idx)
    except TypeError:
        return None


def _as_list(several: Any, what: str) -> list[Any]:
    if isinstance(several, (str, bytes, dict)) or not isinstance(several, Iterable):
        raise FreezingError(
            f"Give one {what} or a list of them, not {type(several).__name__} ({several!r:.60})."
        )
    return list(several)
