"""How one module is held frozen, and let go again.

Four things have to be stopped, and each is stopped where it happens:

* **the optimizer**: ``requires_grad`` off and ``.grad`` None, which every optimizer skips;
* **training mode** (BatchNorm statistics, dropout, power iterations): the module is put in eval
  mode, and its own ``train`` answers for it from then on, so that ``model.train()`` passes by;
* **resets of running statistics** (``update_bn`` sets them to zero): passed over, with a warning;
* **a forward that writes into its own tensors** even in eval mode (``Embedding(max_norm=...)``,
  modules of your own with counters or caches in buffers): it computes on copies, thrown away.

The last three use one trick. ``module.train(...)`` and ``module.forward(...)`` look in the instance
before they look in the class; an entry in ``module.__dict__`` takes the class's place, for this
module only, and deleting the entry brings the class's back. The entry is a ``functools.partial``
of a plain function, so a frozen model can still be copied, pickled and compiled.
"""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from course_lib.errors import CourseWarning
from course_lib.freezing.select import Inventory, Slot

ATTRIBUTE = "_freezing"


@dataclass
class Hold:
    """What freezing changed in one module. Lives in the module, so it travels with copies.

    Attributes:
        flags: frozen own parameters by key, with the ``requires_grad`` each had before.
        buffers: frozen own buffers by key.
        whole: the module was frozen as a module, not just some tensors of it.
        inference: the module is kept in inference mode now.
        mode: the ``training`` flag it would have had by now, had nobody frozen it.
        shadowed: what stood in the instance where ``train`` and ``forward`` stand now.
    """

    flags: dict[str, bool] = field(default_factory=dict)
    buffers: set[str] = field(default_factory=set)
    whole: bool = False
    inference: bool = False
    mode: bool = True
    shadowed: dict[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Nothing of the module is frozen any more."""
        return not (self.flags or self.buffers or self.whole)


def hold_of(module: nn.Module) -> Hold | None:
    """What is frozen in ``module`` itself, or None."""
    return module.__dict__.get(ATTRIBUTE)


def is_whole(module: nn.Module) -> bool:
    """Whether ``freeze`` holds the module as a module, not just tensors of it."""
    record = hold_of(module)
    return record is not None and record.whole


def is_held(slot: Slot) -> bool:
    """Whether ``freeze`` holds the parameter or buffer in this place."""
    record = hold_of(slot.owner)
    return record is not None and (slot.key in record.flags or slot.key in record.buffers)


def hold(module: nn.Module) -> Hold:
    """What is frozen in ``module`` itself; an empty record is made when there is none."""
    return module.__dict__.setdefault(ATTRIBUTE, Hold())


def settle(module: nn.Module) -> None:
    """Bring mode and shadows in step with the record; drop the record when it is empty.

    A buffer changes because its module is in training mode, so a frozen buffer keeps its module
    in inference mode too.
    """
    record = hold_of(module)
    if record is None:
        return
    wanted = (record.whole or bool(record.buffers)) and _has_a_mode(module)
    if wanted and not record.inference:
        record.inference, record.mode = True, module.training
        module.training = False
        _shadow(module, record, "train", _stay_in_inference)
        if hasattr(module, _RESET) and any(each is not None for each in module._buffers.values()):
            _shadow(module, record, _RESET, _keep_statistics)
    elif record.inference and not wanted:
        record.inference = False
        _uncover(module, record, "train")
        if _RESET in record.shadowed:
            _uncover(module, record, _RESET)
        module.training = record.mode
    # A forward is replaced only where it could write: most modules keep their own.
    writes = record.inference and (bool(_written_by_forward(module)) or isinstance(module, _RNNS))
    if writes and "forward" not in record.shadowed:
        _shadow(module, record, "forward", _compute_on_copies)
    elif "forward" in record.shadowed and not writes:
        _uncover(module, record, "forward")
    if record.is_empty:
        del module.__dict__[ATTRIBUTE]


def _has_a_mode(module: nn.Module) -> bool:
    """What torch.compile wraps around a module has none: its ``training`` is that module's."""
    return not isinstance(getattr(type(module), "training", None), property)


def frozen_flags(inventory: Inventory) -> dict[int, bool]:
    """The frozen parameters by ``id``, with the ``requires_grad`` that each had before."""
    flags: dict[int, bool] = {}
    for slot in inventory.parameters.values():
        record = hold_of(slot.owner)
        if record is not None and slot.key in record.flags:
            flags[id(slot.tensor)] = record.flags[slot.key]
    return flags


_NOTHING = "nothing stood here"  # a string, since it must stay equal to itself through pickling
_RESET = "reset_running_stats"
_KNOWN = ("torch.nn.", "builtins", "typing", "abc")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_RNNS = (nn.RNNBase,)


def _shadow(module: nn.Module, record: Hold, name: str, function: Any) -> None:
    record.shadowed[name] = module.__dict__.get(name, _NOTHING)
    module.__dict__[name] = partial(function, module)


def _uncover(module: nn.Module, record: Hold, name: str) -> None:
    before = record.shadowed.pop(name)
    if isinstance(before, str) and before == _NOTHING:
        del module.__dict__[name]
    else:
        module.__dict__[name] = before


def _original(module: nn.Module, name: str) -> Any:
    """The ``train`` or ``forward`` that would run if the module weren't frozen."""
    before = module.__dict__[ATTRIBUTE].shadowed[name]
    if isinstance(before, str) and before == _NOTHING:
        return getattr(type(module), name).__get__(module)
    return before


def _stay_in_inference(module: nn.Module, mode: bool = True) -> nn.Module:
    """Answer ``train(mode)`` for a frozen module: remember the mode, pass it on, stay as it is.

    The module's own ``train`` still runs: children that aren't frozen get the mode through it,
    and the flag it leaves is the one to give back on unfreezing.
    """
    record = module.__dict__[ATTRIBUTE]
    module.training = record.mode
    try:
        _original(module, "train")(mode)
    finally:
        record.mode = module.training
        module.training = False
    return module


def _keep_statistics(module: nn.Module) -> None:
    """Answer ``reset_running_stats()`` for a frozen module: what is frozen isn't set to zero."""
    warnings.warn(
        f"The running statistics of a frozen {type(module).__name__} stay as they are: whatever "
        "resets them (update_bn of torch.optim.swa_utils does) couldn't estimate them anew, since "
        "a frozen layer doesn't collect any. To renew them: unfreeze(...) it first.",
        CourseWarning,
        stacklevel=2,
    )


def _written_by_forward(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """The own tensors that the module's forward may write into, even in eval mode.

    torch's own layers leave their buffers alone in eval mode (observers of torch.ao don't). What
    a layer from elsewhere does can't be known, so its buffers count.
    """
    if isinstance(module, _EMBEDDINGS) and module.max_norm is not None:
        return [(module._parameters, "weight")]
    if all(each.__module__.startswith(_KNOWN) for each in type(module).__mro__):
        return []
    return [(module._buffers, key) for key, value in module._buffers.items() if value is not None]


def _compute_on_copies(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the module's own forward on copies of what it may write into; then throw them away."""
    places = _written_by_forward(module)
    originals = [table[key] for table, key in places]
    try:
        for (table, key), tensor in zip(places, originals, strict=True):
            table[key] = tensor.detach().clone()
        with _rnn_in_eval_mode(module):
            return _original(module, "forward")(*args, **kwargs)
    finally:
        for (table, key), tensor in zip(places, originals, strict=True):
            table[key] = tensor


def _rnn_in_eval_mode(module: nn.Module) -> Any:
    """Let gradients pass through a frozen RNN: on a GPU, cuDNN refuses that in eval mode."""
    if isinstance(module, _RNNS) and torch.is_grad_enabled() and torch.cuda.is_available():
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()
