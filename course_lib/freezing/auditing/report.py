"""The result of an audit: rows to read and to test, as text and as HTML."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from course_lib.freezing.auditing.figure import MARKS, figure
from course_lib.freezing.auditing.judge import Row
from course_lib.freezing.auditing.reasons import LEVELS, Finding
from course_lib.freezing.select import Inventory, Names, select_in
from course_lib.text import counted, few, ruled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALARMS = ("leak", "stuck", "risk")
LONG = 40  # rows; a longer table is printed only when asked for
HEAD = ("", "tensor", "kind", "requires_grad", "optimizer", "gradient", "change", "verdict", "why")


@dataclass(frozen=True)
class Group:
    """One finding with all tensors it holds for, and one line that fixes all of them."""

    level: str
    code: str
    why: str
    fix: str
    names: tuple[str, ...]


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

    def names_to_fix(self, code: str) -> list[str]:
        """The names that the line to write for a reason is about, ready for ``freeze``."""
        found = [each for row in self.rows for each in row.findings if each.code == code]
        return list(dict.fromkeys(each.about for each in found))

    def assert_frozen(self, names: Names) -> None:
        """For tests of your own training code: nothing named moved.

        Args:
            names: as for ``freeze``.

        Raises:
            AssertionError: something did; the message names tensors and reasons.
            UnknownNameError, FreezingError: the names can't be read.
        """
        self._assert(names, lambda row: not row.changed, "moved in one step")

    def assert_trained(self, names: Names) -> None:
        """For tests of your own training code: no *parameter* named stood still.

        Args:
            names: as for ``freeze``.

        Raises:
            AssertionError: one did; the message names it, and the reason.
            UnknownNameError, FreezingError: the names can't be read.
        """
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

    def grouped(self) -> list[Group]:
        """Each reason once, worst first. The sentence is the first tensor's, standing for all."""
        found: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
        for row in self.rows:
            for finding in row.findings:
                found.setdefault((finding.level, finding.code), []).append((row.name, finding))
        groups = [
            Group(level, code, each[0][1].why, _mend_all(each), tuple(name for name, _ in each))
            for (level, code), each in found.items()
        ]
        return sorted(groups, key=lambda group: LEVELS.index(group.level))

    def table(self, rows: Iterable[Row] | None = None) -> str:
        """All rows, or the given ones, as a text table; reasons by their short names."""
        return ruled([HEAD, *map(_cells, self.rows if rows is None else rows)])

    def findings(self) -> str:
        """The findings, each said once with the tensors it holds for, and the line to write."""
        lines = []
        for group in self.grouped():
            lines.append(f"{MARKS[group.level].sign} {group.level}: {few(group.names)}")
            lines.append(f"    why:  {group.why} [{group.code}]")
            lines.append(f"    fix: {group.fix}")
        lines += [f"{MARKS['risk'].sign} {remark}" for remark in self.remarks]
        return "\n".join(lines)

    def figure(self) -> "Figure":
        """The network by depth: how far each tensor moved, and the verdict on it."""
        return figure(self.rows)

    def __str__(self) -> str:
        parts = [self.summary(), self.findings()]
        if len(self.rows) <= LONG:
            parts.insert(1, self.table())
        return "\n\n".join(part for part in parts if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A summary, the findings and the table, folded when it is long. Needs no script."""
        parts = [f"<p><b>Audit of one step.</b> {escape(self.summary())}</p>"]
        for group in self.grouped():
            parts.append(
                f"<p>{_badge(group.level)} <code>{escape(few(group.names))}</code><br>"
                f"{escape(group.why)}.<br>Fix: <code>{escape(group.fix)}</code></p>"
            )
        parts += [f"<p>{_badge('risk')} {escape(remark)}</p>" for remark in self.remarks]
        head = "".join(f'<th scope="col" style="text-align:left">{each}</th>' for each in HEAD[1:])
        body = "".join(map(_html_row, self.rows))
        parts.append(
            f"<details{' open' if len(self.rows) <= LONG else ''}>"
            f"<summary>All {len(self.rows)} tensors</summary>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>"
        )
        return "\n".join(parts)


def _line(row: Row) -> str:
    why = f": {row.findings[0].why}. Fix: {row.findings[0].fix}" if row.findings else ""
    return f"{row.name} (changed by {row.change:.3g}){why}"


def _cells(row: Row) -> tuple[str, ...]:
    """One row in words, in the order of ``HEAD``."""
    parameter = row.kind == "parameter"
    return (
        MARKS[row.verdict].sign, row.name, row.kind, str(row.requires_grad) if parameter else "",
        ("no" if row.group is None else f"group {row.group}") if parameter else "",
        ("None" if row.gradient is None else f"{row.gradient:.2g}") if parameter else "",
        f"{row.change:.2g}" if row.changed else "0", row.verdict, row.reason,
    )  # fmt: skip


def _mend_all(found: Sequence[tuple[str, Finding]], limit: int = 4) -> str:
    """The line to write for several tensors, ready to paste."""
    first = found[0][1]
    names = list(dict.fromkeys(finding.about for _, finding in found))
    if len(names) == 1:
        return first.fix
    several = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    if len(names) > limit:
        several = f'report.names_to_fix("{first.code}")'
    return first.fix.replace(f'"{first.about}"', several)


def _html_row(row: Row) -> str:
    columns = _cells(row)[1:]
    marked = [f"<td style='text-align:left'>{escape(text)}</td>" for text in columns]
    marked[-2] = f"<td style='text-align:left'>{_badge(row.verdict)}</td>"
    return "<tr>" + "".join(marked) + "</tr>"


def _badge(word: str) -> str:
    # The word stays in the page's own text colour, readable in light and dark; the bar colours it.
    return (
        f'<span style="border-left:0.5em solid {MARKS[word].colour};padding-left:0.4em;'
        f'white-space:nowrap"><b>{MARKS[word].sign} {word}</b></span>'
    )
