"""An audit to look at: text, HTML and a figure. Every colour comes with a sign and a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from course_lib.freezing.auditing.reasons import LEVELS, Finding
from course_lib.text import ruled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from course_lib.freezing.auditing.report import Row

SIGNS = {
    "leak": "✗",
    "stuck": "!",
    "risk": "~",
    "note": "·",
    "trains": "▲",
    "updates": "▲",
    "frozen": "■",
    "still": "■",
    "moved": "▲",
}
# Colours of Okabe and Ito, told apart by colour-blind eyes.
COLOURS = {
    "leak": "#D55E00",
    "stuck": "#CC79A7",
    "risk": "#E69F00",
    "note": "#56B4E9",
    "trains": "#009E73",
    "updates": "#009E73",
    "frozen": "#0072B2",
    "still": "#0072B2",
    "moved": "#009E73",
}
MARKERS = {"▲": "^", "■": "s", "✗": "X", "!": "P", "~": "D", "·": "o"}
HEAD = ("", "tensor", "kind", "requires_grad", "optimizer", "gradient", "change", "verdict", "why")


def cells(row: "Row") -> tuple[str, ...]:
    """One row in words, in the order of ``HEAD``."""
    parameter = row.kind == "parameter"
    return (
        SIGNS[row.verdict],
        row.name,
        row.kind,
        str(row.requires_grad) if parameter else "",
        ("no" if row.group is None else f"group {row.group}") if parameter else "",
        ("None" if row.gradient is None else f"{row.gradient:.2g}") if parameter else "",
        f"{row.change:.2g}" if row.changed else "0",
        row.verdict,
        row.reason,
    )


def text_table(rows: Sequence["Row"]) -> str:
    """A table with aligned columns; reasons by their short names."""
    return ruled([HEAD, *(cells(row) for row in rows)])


@dataclass(frozen=True)
class Group:
    """One finding with all tensors it holds for, and one line that mends all of them."""

    level: str
    code: str
    why: str
    mend: str
    names: tuple[str, ...]


def grouped(rows: Sequence["Row"]) -> list[Group]:
    """Each reason once, worst first. The sentence is the first tensor's, standing for all."""
    found: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
    for row in rows:
        for finding in row.findings:
            found.setdefault((finding.level, finding.code), []).append((row.name, finding))
    groups = [
        Group(level, code, each[0][1].why, _mend_all(each), tuple(name for name, _ in each))
        for (level, code), each in found.items()
    ]
    return sorted(groups, key=lambda group: LEVELS.index(group.level))


def _mend_all(found: Sequence[tuple[str, Finding]], limit: int = 4) -> str:
    """The mending line for several tensors, ready to paste."""
    first = found[0][1]
    targets = list(dict.fromkeys(finding.target for _, finding in found))
    if len(targets) == 1:
        return first.mend
    several = "[" + ", ".join(f'"{target}"' for target in targets) + "]"
    if len(targets) > limit:
        several = f'report.targets("{first.code}")'
    return first.mend.replace(f'"{first.target}"', several)


def _few(names: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def text_findings(rows: Sequence["Row"], remarks: Sequence[str]) -> str:
    """What is wrong, why, and the line to write."""
    lines = []
    for group in grouped(rows):
        lines.append(f"{SIGNS[group.level]} {group.level}: {_few(group.names)}")
        lines.append(f"    why:  {group.why} [{group.code}]")
        lines.append(f"    mend: {group.mend}")
    lines += [f"{SIGNS['risk']} {remark}" for remark in remarks]
    return "\n".join(lines)


def html(rows: Sequence["Row"], summary: str, remarks: Sequence[str], open_table: bool) -> str:
    """A summary, the findings and the table, folded when it is long. Needs no script."""
    parts = [f"<p><b>Audit of one step.</b> {escape(summary)}</p>"]
    for group in grouped(rows):
        parts.append(
            f"<p>{_badge(group.level)} <code>{escape(_few(group.names))}</code><br>"
            f"{escape(group.why)}.<br>Mend: <code>{escape(group.mend)}</code></p>"
        )
    parts += [f"<p>{_badge('risk')} {escape(remark)}</p>" for remark in remarks]
    head = "".join(f'<th scope="col" style="text-align:left">{escape(h)}</th>' for h in HEAD[1:])
    body = "".join(_html_row(row) for row in rows)
    parts.append(
        f"<details{' open' if open_table else ''}><summary>All {len(rows)} tensors</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>"
    )
    return "\n".join(parts)


def _html_row(row: "Row") -> str:
    columns = list(cells(row))[1:]
    marked = [f"<td style='text-align:left'>{escape(text)}</td>" for text in columns]
    marked[-2] = f"<td style='text-align:left'>{_badge(row.verdict)}</td>"
    return "<tr>" + "".join(marked) + "</tr>"


def _badge(word: str) -> str:
    # The word stays in the page's own text colour, readable in light and dark; the bar colours it.
    return (
        f'<span style="border-left:0.5em solid {COLOURS[word]};padding-left:0.4em;'
        f'white-space:nowrap"><b>{SIGNS[word]} {word}</b></span>'
    )


def figure(rows: Sequence["Row"]) -> "Figure":
    """Tensors from input to output, how far each moved on a logarithmic scale, and the verdict.

    What didn't move stands on the bottom line.
    """
    from matplotlib.figure import Figure

    moved = [row.change for row in rows if 0 < row.change < float("inf")]
    floor = min(moved, default=1e-3) / 10
    drawn = Figure(figsize=(7.2, 3.2), dpi=100, layout="constrained", facecolor="white")
    axes = drawn.subplots()
    axes.set_facecolor("white")
    axes.set_yscale("log")
    for verdict in dict.fromkeys(row.verdict for row in rows):
        points = [
            (x, min(max(row.change, floor), 10 * max(moved, default=1)))
            for x, row in enumerate(rows)
            if row.verdict == verdict
        ]
        axes.scatter(
            [x for x, _ in points],
            [y for _, y in points],
            s=26,
            marker=MARKERS[SIGNS[verdict]],
            color=COLOURS[verdict],
            label=f"{verdict} ({len(points)})",
            zorder=3,
        )
    axes.axhline(floor, color="#999999", linewidth=0.8, zorder=1)
    axes.annotate(
        "unchanged", (0, floor), xytext=(0, 6), textcoords="offset points", fontsize=7,
        color="#555555",
    )  # fmt: skip
    _mark_modules(axes, [row.name.split(".")[0] for row in rows])
    axes.set_ylabel("largest change in one step")
    axes.set_title("One training step, tensor by tensor from input to output", fontsize=10)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _mark_modules(axes: object, tops: Sequence[str]) -> None:
    """A line between top-level modules and their names below."""
    starts = [i for i, top in enumerate(tops) if i == 0 or top != tops[i - 1]]
    ends = [*starts[1:], len(tops)]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="#DDDDDD", linewidth=0.6, zorder=0)  # type: ignore[attr-defined]
    places: list[float] = []
    labels: list[str] = []
    for start, end in zip(starts, ends, strict=True):
        middle = (start + end - 1) / 2
        if places and middle - places[-1] < 0.06 * len(tops):  # too near: they share a label
            labels[-1] += f", {tops[start]}"
        else:
            places.append(middle)
            labels.append(tops[start])
    axes.set_xticks(places, labels, rotation=45, ha="right", fontsize=8)  # type: ignore[attr-defined]
