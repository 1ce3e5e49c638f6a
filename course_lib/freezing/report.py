"""What ``freeze`` and ``unfreeze`` did, in a form to print and to test."""

from dataclasses import dataclass

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
