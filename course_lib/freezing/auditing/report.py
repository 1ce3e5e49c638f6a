"""The result of an audit: rows to read and to test, a text for the terminal."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from course_lib.freezing.auditing import show
from course_lib.freezing.auditing.facts import TensorFacts
from course_lib.freezing.auditing.reasons import LEVELS, Finding
from course_lib.freezing.select import Inventory, Names, select_in
from course_lib.text import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALARMS = ("leak", "stuck", "risk")
LONG = 40  # rows; a longer table is printed only when asked for


@dataclass(frozen=True)
class Row:
    """One parameter or buffer.

    Attributes:
        name, names: its first name, and all of them when it is tied or its module shared.
        kind: ``"parameter"`` or ``"buffer"``.
        shape, size: its shape, and how many numbers that are.
        requires_grad: the flag before the step; None for a buffer.
        group: index of its group in the optimizer, found by identity; None when it is in none.
        gradient: Euclidean norm of the gradient it had at the optimizer's step; None for none.
        changed: whether any bit differs after the step.
        change: largest absolute change of an element.
        state: what it is doing: trains, frozen, still, updates, moved.
        findings: what is wrong with that, worst first.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    size: int
    requires_grad: bool | None
    group: int | None
    gradient: float | None
    changed: bool
    change: float
    state: str
    findings: tuple[Finding, ...] = ()

    @property
    def level(self) -> str:
        """The worst level among its findings: leak, stuck, risk, note or ok."""
        return self.findings[0].level if self.findings else "ok"

    @property
    def reason(self) -> str:
        """The code of the worst finding, or an empty string."""
        return self.findings[0].code if self.findings else ""

    @property
    def verdict(self) -> str:
        """The level of a finding, or what the tensor does when all is well."""
        return self.state if self.level == "ok" else self.level


@dataclass(frozen=True, repr=False)
class AuditReport:
    """What one training step would do to a model, tensor by tensor."""

    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    inventory: Inventory = field(default_factory=lambda: Inventory({}, {}, {}), compare=False)

    def __getitem__(self, name: str) -> Row:
        """The row of a tensor, by any of its names."""
        for row in self.rows:
            if name in row.names:
                return row
        raise KeyError(name)

    def at(self, *levels: str) -> tuple[Row, ...]:
        """The rows whose worst finding is at one of ``levels``."""
        return tuple(row for row in self.rows if row.level in levels)

    @property
    def leaks(self) -> tuple[Row, ...]:
        """Tensors that are meant to be frozen and moved."""
        return self.at("leak")

    @property
    def stuck(self) -> tuple[Row, ...]:
        """Tensors that are meant to train and can't."""
        return self.at("stuck")

    @property
    def ok(self) -> bool:
        """No leak, nothing stuck, no risk; notes don't count."""
        return not self.at(*ALARMS) and not self.remarks

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of all tensors that the step changed."""
        return tuple(row.name for row in self.rows if row.changed)

    def targets(self, code: str) -> list[str]:
        """The names that the mending line of a reason is about, ready for ``freeze``."""
        found = [each for row in self.rows for each in row.findings if each.code == code]
        return list(dict.fromkeys(each.target for each in found))

    def assert_frozen(self, names: Names) -> None:
        """Raise AssertionError, naming tensors and reasons, if anything named moved.

        Raises:
            UnknownNameError, FreezingError: when the names can't be read.
        """
        self._assert(names, lambda row: not row.changed, "moved in one step")

    def assert_trained(self, names: Names) -> None:
        """Raise AssertionError if any *parameter* named stood still."""
        self._assert(
            names, lambda row: row.changed or row.kind == "buffer", "stood still in one step"
        )

    def _assert(self, names: Names, fine: Callable[[Row], bool], what: str) -> None:
        selection = select_in(self.inventory, names)
        wanted = {*selection.parameters, *selection.buffers}
        bad = [row for row in self.rows if wanted & {*row.names} and not fine(row)]
        if bad:
            lines = [f"{len(bad)} of {counted(len(wanted), 'tensor')} {what}:"]
            lines += [f"  {_line(row)}" for row in bad]
            raise AssertionError("\n".join(lines))

    def summary(self) -> str:
        """What trains, what is frozen and what is wrong, in one line each."""
        lines = []
        for what, one, many in (
            ("trains", "parameter trains", "parameters train"),
            ("frozen", "tensor is frozen", "tensors are frozen"),
        ):
            rows = [row for row in self.rows if row.state == what]
            numbers = counted(sum(row.size for row in rows), "number")
            lines.append(f"{counted(len(rows), one, many)} ({numbers})")
        updates = sum(row.state == "updates" for row in self.rows)
        if updates:
            said = counted(updates, "buffer updates as it should", "buffers update as they should")
            lines.append(said)
        counts = [
            counted(len(self.at(level)), level, "stuck" if level == "stuck" else "")
            for level in LEVELS[:4]
            if self.at(level)
        ]
        lines.append("findings: " + (", ".join(counts) or "none"))
        return "; ".join(lines) + "."

    def table(self, rows: Iterable[Row] | None = None) -> str:
        """All rows, or the given ones, as a text table."""
        return show.text_table(self.rows if rows is None else tuple(rows))

    def findings(self) -> str:
        """The findings, each said once with the tensors it holds for, and how to mend them."""
        return show.text_findings(self.rows, self.remarks)

    def figure(self) -> "Figure":
        """The network by depth: how far each tensor moved, and the verdict on it."""
        return show.figure(self.rows)

    def __str__(self) -> str:
        parts = [self.summary(), self.findings()]
        if len(self.rows) <= LONG:
            parts.insert(1, self.table())
        return "\n\n".join(part for part in parts if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return show.html(self.rows, self.summary(), self.remarks, open_table=len(self.rows) <= LONG)


def row_of(facts: TensorFacts, findings: tuple[Finding, ...]) -> Row:
    """The row for what is known about a tensor."""
    return Row(
        facts.name,
        facts.names,
        "parameter" if facts.is_parameter else "buffer",
        tuple(facts.tensor.shape),
        facts.tensor.numel(),
        facts.requires_grad if facts.is_parameter else None,
        facts.group,
        facts.gradient,
        facts.changed,
        facts.change,
        _state(facts, findings),
        findings,
    )


def _state(facts: TensorFacts, findings: tuple[Finding, ...]) -> str:
    if any(each.level == "leak" for each in findings):
        return "moved"
    if not facts.is_parameter:
        held = facts.held or facts.declared == "frozen"
        return "updates" if facts.changed else "frozen" if held else "still"
    if facts.changed:
        return "trains"
    return "frozen" if facts.meant_frozen else "still"


def _line(row: Row) -> str:
    why = f": {row.findings[0].why}. Mend: {row.findings[0].mend}" if row.findings else ""
    return f"{row.name} (changed by {row.change:.3g}){why}"
