"""An audit as a figure; and the sign, the colour and the marker of each verdict."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from course_lib.freezing.auditing.judge import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Mark(NamedTuple):
    """How a verdict looks: a sign beside every colour, for eyes that don't tell colours apart."""

    sign: str
    colour: str  # of Okabe and Ito
    marker: str


_GREEN, _BLUE = Mark("▲", "#009E73", "^"), Mark("■", "#0072B2", "s")
MARKS = {
    "leak": Mark("✗", "#D55E00", "X"), "stuck": Mark("!", "#CC79A7", "P"),
    "risk": Mark("~", "#E69F00", "D"), "note": Mark("·", "#56B4E9", "o"),
    "trains": _GREEN, "updates": _GREEN, "moved": _GREEN, "frozen": _BLUE, "still": _BLUE,
}  # fmt: skip


def figure(rows: Sequence[Row]) -> "Figure":
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
            [x for x, _ in points], [y for _, y in points], s=26, marker=MARKS[verdict].marker,
            color=MARKS[verdict].colour, label=f"{verdict} ({len(points)})", zorder=3,
        )  # fmt: skip
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


def _mark_modules(axes: "Axes", tops: Sequence[str]) -> None:
    """A line between top-level modules and their names below."""
    starts = [i for i, top in enumerate(tops) if i == 0 or top != tops[i - 1]]
    ends = [*starts[1:], len(tops)]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="#DDDDDD", linewidth=0.6, zorder=0)
    places: list[float] = []
    labels: list[str] = []
    for start, end in zip(starts, ends, strict=True):
        middle = (start + end - 1) / 2
        if places and middle - places[-1] < 0.06 * len(tops):  # too near: they share a label
            labels[-1] += f", {tops[start]}"
        else:
            places.append(middle)
            labels.append(tops[start])
    axes.set_xticks(places, labels, rotation=45, ha="right", fontsize=8, parse_math=False)
