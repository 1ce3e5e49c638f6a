"""Give a model its new values: all of them, or none.

Where they are only copied, nothing can fail any more at this point. Where modules run code of their
own, anything may: the old values are kept, and go back on any trouble.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from course_lib.errors import interrupts_delayed

_DEEPEST = 4  # levels of lists, dictionaries and objects in a module that are put back


def commit(
    model: nn.Module,
    load: Callable[[], None],
    types: Mapping[torch.Tensor, torch.dtype],
    *,
    keep_old: bool,
) -> None:
    """Load, and on any error put everything back. Ctrl-C waits.

    Args:
        model: the model.
        load: puts the new values in; it raises what makes the load fail.
        types: tensors of the model that get another type first.
        keep_old: whether anything can fail.

    Raises:
        Whatever ``load`` raises.
    """
    with interrupts_delayed():
        before = Before(model) if keep_old else None
        try:
            for tensor, dtype in types.items():
                tensor.data = torch.empty_like(tensor, dtype=dtype)
            load()
        except BaseException:
            if before is not None:
                before.restore()
            raise


class Before:
    """What a model was: its tensors, bit for bit, and what its modules hold beside them.

    Lists, dictionaries, arrays and plain objects in the modules' attributes are put back as well,
    since a hook may change them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._undo: list[Callable[[], object]] = []
        self._seen: dict[int, object] = {}  # holds what it knows, so that no id is used again
        self._keep(model, 0)
        for each in (*model.parameters(), *model.buffers()):
            self._keep(each, 0)  # those of a scripted module, which are no attributes

    def restore(self) -> None:
        """Put everything back; tensors last, into the memory that they had."""
        with torch.no_grad():
            for undo in reversed(self._undo):
                undo()

    def _keep(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or depth > _DEEPEST:
            return
        if isinstance(value, nn.Module):
            self._keep(vars(value), 0)
        elif isinstance(value, torch.Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self._undo.append(partial(value.__setitem__, ..., value.copy()))
        elif isinstance(value, dict):
            self._undo.append(partial(_refill, value, dict(value)))
            self._all(value, list(value.values()), depth)
        elif isinstance(value, list):
            self._undo.append(partial(value.__setitem__, slice(None), list(value)))
            self._all(value, list(value), depth)
        elif isinstance(value, set):
            self._undo.append(partial(_refill, value, set(value)))
        elif isinstance(value, tuple):
            self._all(value, list(value), depth)
        elif _has_attributes(value):
            self._seen[id(value)] = value
            self._keep(vars(value), depth)

    def _all(self, holder: object, inside: list[Any], depth: int) -> None:
        self._seen[id(holder)] = holder
        for each in inside:
            self._keep(each, depth + 1)

    def _tensor(self, tensor: torch.Tensor) -> None:
        self._seen[id(tensor)] = tensor
        kind, memory = type(tensor), tensor.data
        copy = None if is_lazy(tensor) else memory.to("cpu", copy=True)

        def undo() -> None:
            if type(tensor) is not kind:  # a lazy tensor that got its shape
                tensor.__class__ = kind
            tensor.data = memory
            if copy is not None:
                memory.copy_(copy)

        self._undo.append(undo)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.update(content)


def _has_attributes(value: object) -> bool:
    strangers = (type, FunctionType, MethodType, ModuleType)
    return hasattr(value, "__dict__") and not isinstance(value, strangers)
