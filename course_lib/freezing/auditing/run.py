"""``audit``: run one training step on a copy, and say what it did to every tensor, and why."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from course_lib import profile
from course_lib.errors import CourseError
from course_lib.freezing.auditing.facts import StepFacts, TensorFacts, difference, gather, norm
from course_lib.freezing.auditing.judge import judge
from course_lib.freezing.auditing.replica import Guard, replica
from course_lib.freezing.auditing.report import AuditReport
from course_lib.freezing.auditing.watch import Watch
from course_lib.freezing.bits import address, same_bits
from course_lib.freezing.select import FreezingError, Inventory, Names, select

Step = Callable[[nn.Module, Optimizer], Any]


class AuditError(CourseError, RuntimeError):
    """The step can't be audited; model, optimizer and random state are as they were."""


def audit(
    model: nn.Module, optimizer: Optimizer, step: Step, *, frozen: Names = (), trainable: Names = ()
) -> AuditReport:
    """Run one training step on a copy, and report for every parameter and buffer what it did.

    The step runs on copies of model and optimizer; afterwards both originals and the random
    states are as they were, also when the step raises.

    What counts as *meant to be frozen*: what ``freeze`` holds, what has ``requires_grad`` off, and
    what you name in ``frozen``. A buffer is meant to be frozen when no parameter of its layer
    trains. A parameter that requires a gradient but is in no optimizer is reported as stuck, since
    it may be forgotten as well as left out on purpose; ``frozen`` settles that.

    Args:
        model: the model, in the state in which training would go on.
        optimizer: its optimizer.
        step: ``step(model, optimizer)`` does one whole training step: modes, ``zero_grad``,
            forward, backward, ``optimizer.step()``. It has to use what it is handed, not
            variables of the same name outside. What it reads from an iterator stays read.
        frozen: names of what is meant to be frozen, however you froze it.
        trainable: names of what is meant to train; standing still is then an error.

    Raises:
        AuditError: the step raised (the cause is chained), or worked on the originals.
        UnknownNameError, FreezingError: ``frozen`` or ``trainable`` can't be read.
    """
    _check(model, optimizer, step)
    facts = gather(model, optimizer, _declared(model, frozen, trainable))
    _check_optimizer(facts)
    watch = _run_on_copies(model, optimizer, step, facts.tensors)
    facts.modules, facts.stepped = watch.modules, watch.stepped
    for tensor in facts.tensors.values():
        _measure(tensor, watch)
    rows = tuple(judge(tensor, facts) for tensor in facts.tensors.values())
    return AuditReport(rows, _remarks(model), facts.inventory)


def _run_on_copies(
    model: nn.Module, optimizer: Optimizer, step: Step, tensors: dict[str, TensorFacts]
) -> Watch:
    """Run the step on copies, with the originals under guard; returns what was seen."""
    guard = Guard(model, optimizer)
    new_model, new_optimizer = replica(model, optimizer)
    inventory = Inventory.of(new_model)
    slots = inventory.parameters | inventory.buffers
    named = {name: slots[name].tensor for name in tensors}
    start = {name: facts.tensor for name, facts in tensors.items()}
    watch = Watch(new_model, new_optimizer, named, start)
    devices = {each.device for each in model.parameters()}
    try:
        with profile.own_streams(devices=devices), watch.looking():
            step(new_model, new_optimizer)
    except Exception as error:
        guard.put_back()
        raise AuditError(_explain(error)) from error
    touched = guard.put_back()
    if touched:
        raise AuditError(
            f"The step worked on the original ({', '.join(touched)}), which is as it was again. "
            "Use the model and the optimizer that the step is handed: step(model, optimizer)."
        )
    return watch


def _measure(facts: TensorFacts, watch: Watch) -> None:
    """Add to the facts of a tensor what the step did to it."""
    after = _after(watch.model, facts.name)
    facts.seen = watch.tensors[facts.name]
    facts.changed = not same_bits(facts.tensor, after)
    facts.change = difference(after, facts.tensor) if facts.changed else 0.0
    facts.finite = not after.is_floating_point() or bool(after.to_dense().isfinite().all())
    facts.address_changed = facts.is_parameter and address(after) != watch.addresses[facts.name]
    facts.gradient_after = norm(after.grad) if facts.is_parameter else None


def _check(model: nn.Module, optimizer: Optimizer, step: Step) -> None:
    if not isinstance(model, nn.Module):
        raise AuditError(f"The model must be a torch.nn.Module, not {type(model).__name__}.")
    if not isinstance(optimizer, Optimizer):
        raise AuditError(
            f"The optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}."
        )
    if not callable(step):
        raise AuditError(
            f"The step must be a function step(model, optimizer), not {type(step).__name__}."
        )


def _declared(model: nn.Module, frozen: Names, trainable: Names) -> dict[str, str]:
    declared: dict[str, str] = {}
    for names, meaning in ((frozen, "frozen"), (trainable, "trainable")):
        selection = select(model, names)
        for name in (*selection.parameters, *selection.buffers):
            if declared.setdefault(name, meaning) != meaning:
                raise FreezingError(f"{name} is named both as frozen and as trainable.")
    return declared


def _check_optimizer(facts: StepFacts) -> None:
    """An optimizer of another model is a mistake in the call, unless the shapes are the same.

    Then it was this model's before ``load_state_dict(assign=True)``, and that is a finding.
    """
    if any(tensor.group is not None for tensor in facts.tensors.values()):
        return
    shapes = {parameter.tensor.shape for parameter in facts.parameters}
    if any(tensor.shape not in shapes for tensor in facts.strangers):
        raise AuditError(
            "The optimizer holds no parameter of this model, nor any of the same shape: it was "
            "built for another model. Give the one built from this model's parameters."
        )


def _after(model: nn.Module, name: str) -> torch.Tensor:
    """The tensor that has the name after the step; a step may have put another one there."""
    try:
        owner, _, key = name.rpartition(".")
        found = getattr(model.get_submodule(owner), key)
    except AttributeError:
        found = None
    if not isinstance(found, torch.Tensor):
        raise AuditError(f"The step took {name} out of the model: it can't be audited.")
    return found


_HINTS = {
    "does not require grad": "Nothing that reaches the loss requires a gradient: everything is "
    "frozen, the new head too, or the last layer ran under no_grad.",
    "more than one parameter group": "unfreeze(..., optimizer=...) adds only what is missing.",
    "finished reduction": "DistributedDataParallel was built before the freeze state changed: "
    "wrap the inner module again.",
}


def _explain(error: Exception) -> str:
    hint = next((hint for sign, hint in _HINTS.items() if sign in str(error)), "")
    return (
        f"The step raised {type(error).__name__}: {error}\n"
        "Model, optimizer and random state are as they were. " + hint
    ).rstrip()


def _remarks(model: nn.Module) -> tuple[str, ...]:
    remarks = []
    for name, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            built_for = module._get_ddp_logging_data().get("num_parameter_tensors")
            now = sum(parameter.requires_grad for parameter in module.parameters())
            if built_for not in (None, now):
                remarks.append(
                    f"{name or 'The model'}: DistributedDataParallel was built when {built_for} "
                    f"tensors required a gradient, now {now} do: gradients go unsynchronised, or "
                    "training stops with 'Expected to have finished reduction'. "
                    "Fix: DistributedDataParallel(model.module), after freezing."
                )
    return tuple(remarks)
