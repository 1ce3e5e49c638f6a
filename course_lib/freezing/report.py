"""What ``freeze`` and ``unfreeze`` did, and what is worth knowing: to print and to test."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.parallel import DistributedDataParallel

from course_lib.freezing.hold import hold_of
from course_lib.freezing.select import Selection
from course_lib.text import counted, few


@dataclass(frozen=True, repr=False)
class FreezeReport:
    """What one call did.

    Attributes:
        action: ``"froze"`` or ``"unfroze"``.
        modules, parameters, buffers: names of what changed its state in this call.
        numbers: how many numbers the changed tensors hold together (a tied one counted once).
        unchanged: named tensors that already were as asked.
        tied: names from this call with the other names that the same tensor or module has.
        added: parameters that ``unfreeze`` added to the optimizer.
        notes: what is worth knowing, one sentence each.
    """

    action: str
    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    numbers: int = 0
    unchanged: tuple[str, ...] = ()
    tied: tuple[tuple[str, tuple[str, ...]], ...] = ()
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, action: str, selection: Selection, modules: Iterable[str], parameters: Iterable[str],
        buffers: Iterable[str], notes: Iterable[str] = (), added: Iterable[str] = (),
    ) -> "FreezeReport":  # fmt: skip
        """Put together what a call did; the lists name what changed its state."""
        changed = {*parameters, *buffers}
        slots = selection.parameters | selection.buffers
        tensors = {id(slots[name].tensor): slots[name].tensor for name in changed}
        return cls(
            action, tuple(modules), tuple(parameters), tuple(buffers),
            numbers=sum(tensor.numel() for tensor in tensors.values()),
            unchanged=tuple(name for name in slots if name not in changed),
            tied=other_names(selection), added=tuple(added), notes=tuple(notes),
        )  # fmt: skip

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors that changed their state, parameters first."""
        return self.parameters + self.buffers

    def __repr__(self) -> str:
        verb = self.action.capitalize()
        if not (self.modules or self.tensors):
            head = f"{verb} nothing"
        else:
            head = (
                f"{verb} {counted(len(self.parameters), 'parameter')} and "
                f"{counted(len(self.buffers), 'buffer')} ({counted(self.numbers, 'number')}) "
                f"in {counted(len(self.modules), 'module')}"
            )
        if self.unchanged:
            head += f"; {counted(len(self.unchanged), 'tensor')} already as asked"
        lines = [head + "."]
        lines += [f"  {name} is also {', '.join(others)}" for name, others in self.tied]
        if self.added:
            lines.append(f"  added to the optimizer: {few(self.added, 6)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def other_names(selection: Selection) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Selected modules and parameters with the other names under which the model uses them.

    The parameters of a module with two names have two names each; that goes without saying.
    """
    found: dict[str, tuple[str, ...]] = {}
    told: set[int] = set()
    for name, module in selection.modules.items():
        twins = [each for each, other in selection.inventory.modules.items() if other is module]
        below = name.rpartition(".")[0] in found  # its parent is shared already
        if len(twins) > 1 and not below and id(module) not in told:
            told.add(id(module))
            found[name] = tuple(each for each in twins if each != name)
    places = selection.inventory.slots_by_tensor()
    for name, slot in selection.parameters.items():
        owners = {(id(place.owner), place.key) for place in places[id(slot.tensor)]}
        if len(owners) > 1 and id(slot.tensor) not in told:
            told.add(id(slot.tensor))
            others = [place.name for place in places[id(slot.tensor)] if place.name != name]
            found[name] = tuple(others)
    return tuple(found.items())


def shared(selection: Selection) -> list[str]:
    """Things that share the fate of a selected one without having been named."""
    named = {*selection.modules, *selection.parameters}
    return [
        f"{other} wasn't named, but it is the same thing as {name}, and shares its fate."
        for name, others in other_names(selection)
        for other in others
        if other not in named
    ]


def moving_statistics(selection: Selection) -> Iterator[str]:
    """Normalisation layers whose parameters are all frozen while their statistics still move."""
    moving = []
    for name, module in selection.inventory.modules.items():
        record = hold_of(module)
        if isinstance(module, _NormBase) and module.track_running_stats and record is not None:
            own = {key for key, value in module._parameters.items() if value is not None}
            if own and own <= record.flags.keys() and not record.inference:
                moving.append(name)
    if moving:
        yield (
            f"only the parameters of {few(moving)} are frozen, the running statistics move on: "
            "name the module to hold both."
        )


def normalises_by_batch(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm that has no running statistics, so even in eval mode."""
    return isinstance(module, _BatchNorm) and (
        module.running_mean is None or module.running_var is None
    )


def batch_statistics(selection: Selection) -> Iterator[str]:
    """Frozen BatchNorm layers that have nothing but the batch to normalise by."""
    names = [name for name, module in selection.modules.items() if normalises_by_batch(module)]
    if names:
        yield (
            f"{few(names)}: BatchNorm without running statistics (track_running_stats=False). "
            "Frozen or not, it normalises by each batch, so what comes out for one picture hangs "
            "on the others in its batch."
        )


def still_held(selection: Selection, buffers: Sequence[str]) -> Iterator[str]:
    """Buffers that were thawed by name while their module stays in inference mode for others."""
    for name in buffers:
        slot = selection.buffers[name]
        record = hold_of(slot.owner)
        if record is not None and record.inference:
            others = ", ".join(sorted(record.buffers))
            yield f"{name} can't move before {others} of the same module is unfrozen too."


def off_before(off: Sequence[str], thawed: Sequence[str]) -> list[str]:
    """Thawed parameters that were not trainable before they were frozen."""
    return [
        f"{name} had requires_grad=False before it was frozen, and has it again."
        for name in off
        if name in thawed
    ]


def still_off(off: Sequence[str], thawed: Sequence[str], optimizer: Any) -> Iterator[str]:
    """A warning when something that was to train still doesn't."""
    left = [name for name in off if name not in thawed or optimizer is not None]
    if left:
        yield (
            f"Still not trainable: {few(left)}. requires_grad was switched off by hand, not by "
            "freeze(), and unfreezing gives back what was there. To train it: "
            ".requires_grad_(True)."
        )


def wrapped(model: nn.Module) -> Iterator[str]:
    """DistributedDataParallel decides when it is built which gradients to synchronise."""
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        yield (
            "DistributedDataParallel chose what to synchronise when it was built: "
            "wrap the inner module again after this change."
        )
