"""What can be wrong with a tensor in training: the catalogue, with the line that fixes it.

Five levels, from worst to harmless:

* **leak**: it is meant to be frozen, and this step moved it
* **stuck**: it is meant to train, and can't
* **risk**: nothing visible in this step, but a later one will go wrong
* **note**: worth knowing, and often meant so
* **ok**
"""

from dataclasses import dataclass

LEVELS = ("leak", "stuck", "risk", "note", "ok")


@dataclass(frozen=True)
class Reason:
    """One thing that can be wrong.

    Attributes:
        level: what it amounts to (``LEVELS``).
        why: one sentence; ``{name}``, ``{module}`` and other facts are filled in.
        fix: the line to write.
    """

    level: str
    why: str
    fix: str


@dataclass(frozen=True)
class Finding:
    """A reason that holds for one tensor, its sentences filled in.

    ``about`` is the name in the line to write: that of the tensor or of its module.
    """

    code: str
    level: str
    why: str
    fix: str
    about: str


_FREEZE_MODULE = 'freeze(model, "{module}")'
_FREEZE_NAME = 'freeze(model, "{name}")'

# A frozen layer that moves: buffers first, then parameters.
_LEAKS = {
    "batchnorm_training": (
        "{kind} is in training mode, and its forward updates the running statistics, "
        "with or without gradients", _FREEZE_MODULE),
    "eval_undone": (
        "{module} was put in eval mode, and a call of train() inside the step undid that",
        _FREEZE_MODULE + "  # stays in eval mode through train()"),
    "instance_norm_tracking": ("{kind} tracks running statistics in training mode", _FREEZE_MODULE),
    "spectral_norm": (
        "spectral norm improves its power-iteration vectors in every training forward, and the "
        "weight computed from them moves too", _FREEZE_MODULE),
    "buffer_written": (
        "{kind} writes this buffer in the step, while no parameter of {module} trains",
        _FREEZE_MODULE),
    "stale_gradient": (
        "a gradient from before it was frozen was still in .grad, so the optimizer moved it",
        _FREEZE_NAME + "  # or: parameter.grad = None"),
    "zeroed_gradient": (
        "its .grad is zeros, not None, so {optimizer} still applies momentum and weight decay",
        _FREEZE_NAME + "  # or: optimizer.zero_grad(set_to_none=True)"),
    "optimizer_memory": (
        "{optimizer} moved it without a gradient, from what it remembers of earlier steps",
        "build the optimizer anew after freezing"),
    "max_norm": (
        "{kind} with max_norm rewrites the rows it looks up in every forward, in eval mode too",
        _FREEZE_MODULE),
    "alias": (
        'the "copy" that was put back shares its memory (p.data or state_dict() without clone()), '
        "so it moved as well", "p.detach().clone(), or better: " + _FREEZE_NAME),
    "no_op_flag": (
        "{flag} = False was written, which only makes a new attribute and switches nothing off",
        _FREEZE_MODULE + "  # or: .requires_grad_(False)"),
    "half_frozen": (
        "{siblings} of the same module {is_} frozen, but this parameter is not", _FREEZE_MODULE),
    "in_projection": (
        "attention keeps it in itself, so freezing its layers (out_proj) passes it by",
        _FREEZE_MODULE),
    "eval_only": (
        "{module} is in eval mode, which stops statistics and dropout, not the parameters",
        _FREEZE_MODULE),
    "undone": (
        "it was frozen by freeze(), and requires_grad or training was switched on by hand since",
        _FREEZE_NAME + "  # once more, or unfreeze it"),
    "trained": (
        "nothing freezes it: it requires a gradient and is in the optimizer (flags are no part of "
        "a state dict, so they are gone after loading a checkpoint)",
        _FREEZE_NAME + "  # after loading: restore_freeze_state"),
    "written": (
        "the step or a forward writes into it, past gradients and optimizer",
        "look for copy_, data, or an in-place operation on it"),
}  # fmt: skip

# A trainable layer that stays still.
_STUCK = {
    "left_out": (
        "it gets gradients but is not in the optimizer: nothing moves it, and the gradients pile "
        "up, since optimizer.zero_grad() doesn't reach it",
        'unfreeze(model, "{name}", optimizer=optimizer)  # to freeze: freeze(...)'),
    "replaced": (
        "it is not in the optimizer, which holds {strangers} that the model lacks: the layer was "
        "replaced after the optimizer was built",
        "build the optimizer after the last change of the model"),
    "assigned": (
        "the optimizer holds none of the model's parameters but others of the same shapes, as "
        "after load_state_dict(assign=True)", "load the weights first, then build the optimizer"),
    "under_no_grad": (
        "{module} ran under torch.no_grad() or with gradients off",
        "take it out of no_grad; to freeze it: freeze(...)"),
    "reentrant": (
        "{module} ran in a reentrant checkpoint, and nothing that goes into it requires a gradient "
        "(it gets the batch, or what frozen layers give): torch then computes none inside",
        "checkpoint(..., use_reentrant=False)"),
    "cut_off": (
        "no gradient comes back to it: {block} ran on its output {how}",
        'freeze(model, "{block}") instead: gradients pass through a frozen module'),
    "not_trainable": (
        "requires_grad is False{tie}",
        'unfreeze(model, "{name}", optimizer=optimizer)  # or: .requires_grad_(True)'),
    "no_step": (
        "the step never called step() of the optimizer it was given",
        "optimizer.step()  # on the step's own argument"),
}  # fmt: skip

# Worth knowing, and often meant so.
_NOTES = {
    "lr_zero": (
        "its group's learning rate is 0: computed and thrown away (right in a warm-up)",
        "optimizer.param_groups[{group}]['lr'] = ...  # to freeze: freeze(...)"),
    "unused": (
        "it got no gradient: it isn't part of this step's loss, or a detach() cuts it off",
        "nothing, if it is meant so"),
    "zero_gradient": (
        "its gradient is zero everywhere in this step",
        "nothing, if it goes away: look at another batch"),
    "too_small": (
        "the update is smaller than the steps between numbers of its type ({dtype})",
        "a larger learning rate, or float32 weights"),
    "tied": (
        "it is one tensor with {others}: they are frozen, or train, together",
        "nothing, if the weights are meant to be tied"),
}  # fmt: skip

# Trouble to come.
_RISKS = {
    "piled_up": (
        "its gradient has piled up over earlier steps (norm {before:.3g} before this one): the "
        "first step after it joins an optimizer will be as large",
        'unfreeze(model, "{name}", optimizer=optimizer)  # clears it'),
    "clipped": (
        "gradient clipping counts it although no optimizer moves it: all steps were scaled by "
        "{coefficient:.2g}", "clip the optimizer's parameters only, or freeze(...)"),
    "restored": (
        "the optimizer moved it and something put it back: its moments move on, and it will jump "
        "when it is let go", _FREEZE_NAME),
    "memory_exchanged": (
        ".data was assigned: from now on it shares the memory of the copy, and the next step moves "
        "both", "parameter.copy_(copy) under no_grad; better: " + _FREEZE_NAME),
    "gradient_waiting": (
        "it is frozen but still has a gradient: an optimizer that gets it would move it",
        _FREEZE_NAME + "  # or: parameter.grad = None"),
    "stale_moments": (
        "the optimizer's moments for it are older than the last step: the first steps follow "
        "gradients of long ago",
        'unfreeze(model, "{name}", optimizer=optimizer), or optimizer.state.pop(parameter)'),
    "unscheduled": (
        "group {group} was added after the learning-rate scheduler was built, which doesn't know "
        "it", "build the scheduler anew, or put all groups in the optimizer from the start"),
    "not_finite": (
        "it holds NaN or infinite values after the step",
        "look at the loss, the learning rate and the data"),
}  # fmt: skip

_TABLES = {"leak": _LEAKS, "stuck": _STUCK, "risk": _RISKS, "note": _NOTES}
REASONS = {
    code: Reason(level, *said) for level, table in _TABLES.items() for code, said in table.items()
}


def finding(
    code: str, level: str | None = None, *, name: str, module: str, **facts: object
) -> Finding:
    """The reason ``code`` with ``facts`` in its sentences; ``level`` overrides its usual one."""
    reason = REASONS[code]
    facts |= {"name": name, "module": module}
    why, fix = reason.why.format(**facts), reason.fix.format(**facts)
    about = module if "{module}" in reason.fix else name
    return Finding(code, level or reason.level, why, fix, about)
