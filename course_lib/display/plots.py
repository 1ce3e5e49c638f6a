"""Every figure that the chapters share, in one style: readable in print, in the dark, in grey.

Each figure has an opaque white ground, the colour-blind safe colours of Okabe and Ito
(https://jfly.uni-koeln.de/color/), and a second cue beside colour: line style, marker or a printed
number. :func:`show` displays it together with a text alternative. Dark themes turn the lightness of
a :data:`PLOT` around, as ``course lab`` and the site do; photographs stay as they are.
"""

import base64
import io
import itertools
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterMathtext, MaxNLocator, NullFormatter
from PIL import Image

from course_lib.chapters import Chapter
from course_lib.errors import DataError

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
}
CYCLE = [COLOURS[name] for name in ("blue", "red", "green", "purple", "orange", "black")]
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
# Starts that come up in several chapters look the same in each: places in the three above.
ROLES = {
    "fine-tuned": 0, "all layers": 0, "trained on ImageNet": 0, "trained body": 0,
    "from scratch": 1, "scratch": 1, "random weights": 1, "untrained body": 1,
    "head only": 2, "head": 2,
}  # fmt: skip
STYLE: Any = {  # the keys are matplotlib's own
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "legend.frameon": False,
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "xtick.color": "#222222",
    "ytick.color": "#222222",
}
PAPER = 6.69  # inches between the margins of A4, to which the handouts shrink wider figures
READABLE = 7.0  # points: no text in a figure is smaller on paper
DPI = 100  # dots per inch on the screen
SHARPNESS = 2  # stored dots per dot on the screen, for paper and for screens that show more
PLOT = "course-plot"  # class of a picture that is lines on white
FEW_COLOURS = 16_384  # a photograph has more
WHITE = 246  # of 255, and up
MOST_MOTION = 4900  # milliseconds


def smallest_text(width: float) -> float:
    """Points that text needs in a figure so many inches wide, to be readable on paper."""
    return READABLE * max(1.0, width / PAPER)


class PlainFigure(Figure):
    """A figure that shows texts as they are: a class may be called ``$x^$``, no formula."""

    def draw(self, renderer: Any) -> None:
        """Draw it."""
        for axis in (each for axes in self.axes for each in (axes.xaxis, axes.yaxis)):
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):
                axis.set_major_formatter("{x:g}")  # 0.001, as the code has it
                axis.set_minor_formatter(NullFormatter())
        least = smallest_text(float(self.get_figwidth()))
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_fontsize(max(least, text.get_fontsize()))
        with matplotlib.rc_context({"text.parse_math": False}):  # for labels that are made now
            super().draw(renderer)


def new_figure(width: float = 6.4, height: float = 3.2) -> Figure:
    """An empty figure in the course's style; sizes in inches. Not known to pyplot: no leaks."""
    with matplotlib.rc_context(STYLE):
        return PlainFigure(figsize=(width, height), dpi=DPI, layout="constrained")


def new_axes(
    width: float = 6.4, height: float = 3.2, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """A figure with a grid of axes, shape (rows, columns), in the course's style."""
    with matplotlib.rc_context(STYLE):
        figure = PlainFigure(figsize=(width, height), dpi=DPI, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


@dataclass(frozen=True)
class Encoded:
    """A figure as the bytes of a picture file.

    Attributes:
        data: the file's bytes.
        kind: ``"png"`` or ``"jpeg"``.
        width: on the screen, in pixels; the file has :data:`SHARPNESS` times as many.
        height: likewise.
    """

    data: bytes = field(repr=False)
    kind: str
    width: int
    height: int

    def html(self, alt: str) -> str:
        """The picture as an HTML element with its text alternative.

        An element, since JupyterLab, the Notebook and VS Code give the pictures that they make from
        ``image/png`` no text alternative, whatever the metadata says.
        """
        plot = f'class="{PLOT}" ' if is_plot(self.data) else ""
        data = base64.b64encode(self.data).decode()
        return (
            f'<img {plot}style="max-width:100%" width="{self.width}" '
            f'alt="{escape(" ".join(alt.split()))}" src="data:image/{self.kind};base64,{data}">'
        )


def is_plot(data: bytes) -> bool:
    """Whether a picture file is lines on white, of which dark themes may invert the lightness."""
    opened = Image.open(io.BytesIO(data)).convert("RGB")
    if opened.getcolors(FEW_COLOURS) is None:
        return False
    lightness = opened.convert("L").histogram()
    return sum(lightness[WHITE:]) > sum(lightness) / 2


def encode(figure: Figure, photographs: bool = False) -> Encoded:
    """A figure as a picture file, sharp enough for paper.

    Args:
        figure: what to store.
        photographs: as JPEG, a fraction of PNG's size for pictures.
    """
    buffer = io.BytesIO()
    kind = "jpeg" if photographs else "png"
    extra: Any = {"pil_kwargs": {"quality": 85}} if photographs else {}
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI * SHARPNESS, **extra)
    width, height = (round(float(inches) * DPI) for inches in figure.get_size_inches())
    return Encoded(buffer.getvalue(), kind, width, height)


def show(figure: Figure, alt: str, photographs: bool = False) -> None:
    """Display a figure in a notebook with a text alternative.

    Args:
        figure: what to show.
        alt: what the picture tells, for people who can't see it and for screen readers.
        photographs: store as JPEG, a fraction of PNG's size for pictures.

    Raises:
        ValueError: the text alternative is empty.
    """
    from IPython.display import display

    if not alt.strip():
        raise ValueError("A figure needs a text alternative: say in alt what the picture tells.")
    made = encode(figure, photographs)
    size = f"Figure, {made.width} x {made.height} pixels"
    display({"text/html": made.html(alt), "text/plain": size}, raw=True)


def show_motion(figures: Iterable[Figure], alt: str) -> None:
    """Display figures one after another, once, within five seconds; then the last one stays.

    It is one PNG file whose still is the last figure: that one has to explain by itself, on paper
    and where nothing moves. Browsers play what else the file holds. Whatever moves for longer than
    five seconds would need a button to stop it (WCAG 2.2.2).

    Args:
        figures: at least one, of one size, with axes that stay where they are.
        alt: what the motion tells.

    Raises:
        ValueError: the text alternative is empty.
    """
    from IPython.display import display

    if not alt.strip():
        raise ValueError("A figure needs a text alternative: say in alt what the motion tells.")
    made = [encode(figure) for figure in figures]
    frames = [Image.open(io.BytesIO(each.data)).convert("RGB") for each in made]
    buffer = io.BytesIO()
    frames[-1].save(
        buffer, "png", save_all=True, append_images=frames, default_image=True, loop=1,
        duration=MOST_MOTION // len(frames),
    )  # fmt: skip
    last = replace(made[-1], data=buffer.getvalue())
    size = f"Moving figure, {last.width} x {last.height} pixels, {len(frames)} steps"
    display({"text/html": last.html(alt), "text/plain": size}, raw=True)


def gallery(
    images: Sequence[Any],
    titles: Sequence[str] | None = None,
    columns: int = 8,
    side: float = 0.95,
) -> Figure:
    """Pictures in rows; each keeps its own aspect ratio.

    Args:
        images: PIL pictures, or arrays of shape (H, W, 3) with values 0..1 or 0..255.
        titles: a line above each.
        columns: pictures in a row.
        side: inches for each picture.

    Raises:
        DataError: no pictures, or not a title for each.
    """
    if not len(images) or (titles is not None and len(titles) != len(images)):
        told = "" if titles is None else f" with {len(titles)} titles"
        raise DataError(f"{len(images)} pictures{told}; expected at least one, a title for each.")
    rows = -(-len(images) // columns)
    size = smallest_text(columns * side)
    letters = int(side * 72 / (0.58 * size))  # that fit above a picture
    above = ["\n".join(textwrap.wrap(title, letters)) for title in titles or ()]
    lines_above = max((1 + title.count("\n") for title in above), default=0)
    height = rows * (side + 0.18 * lines_above)
    figure, axes = new_axes(columns * side, height, rows, columns)
    for axis in axes.flat:
        axis.axis("off")
    for position, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(np.asarray(image))
        if above:
            axis.set_title(above[position], fontsize=size, pad=2)
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    log_x: bool = False,
    level: tuple[float, str] | None = None,
    axis: Axes | None = None,
) -> Figure:
    """Several lines over one axis, told apart by colour, marker and dash.

    A name of :data:`ROLES` has its look in every figure; the others share what is left.

    Args:
        series: name to (x values, y values).
        xlabel: with the unit.
        ylabel: with the unit.
        log_x: a logarithmic horizontal axis; otherwise whole numbers get whole ticks.
        level: a height to compare with, and its name, such as ``(0.5, "guessing")``.
        axis: where to draw; by default in a figure of its own.
    """
    if axis is None:
        axis = new_axes()[1][0, 0]
    taken = {ROLES[name] for name in series if name in ROLES}
    looks = [3, 4, 5, 0, 1, 2] if taken else range(len(CYCLE))  # others don't look like a role
    free = itertools.cycle([look for look in looks if look not in taken])
    for name, (x, y) in series.items():
        look = ROLES[name] if name in ROLES else next(free)
        axis.plot(
            x, y, label=name, color=CYCLE[look], marker=MARKERS[look], markersize=4,
            linestyle=DASHES[look],
        )  # fmt: skip
    if log_x:
        axis.set_xscale("log")
    elif all(float(value).is_integer() for x, _ in series.values() for value in x):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if level:
        axis.axhline(level[0], color="#666666", linewidth=0.8)
        axis.annotate(
            level[1], (0.995, level[0]), xycoords=("axes fraction", "data"), xytext=(0, 3),
            textcoords="offset points", ha="right", fontsize=8, color="#444444",
        )  # fmt: skip
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(fontsize=8)
    return axis.get_figure()  # type: ignore[return-value]


def confusion(matrix: Any, classes: Sequence[str]) -> Figure:
    """A confusion matrix with its counts.

    Args:
        matrix: shape (C, C); rows are the true classes, columns the predicted ones.
        classes: the C names.

    Raises:
        DataError: not as many names as rows and columns.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise DataError(
            f"A confusion matrix of shape {counts.shape} for {len(classes)} classes; expected as "
            "many rows and columns as names."
        )
    figure, axes = new_axes(0.9 * len(classes) + 1.8, 0.7 * len(classes) + 1.1)
    axis = axes[0, 0]
    axis.imshow(counts, cmap="Blues", vmin=0)
    axis.grid(False)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "#222222"
        axis.text(column, row, str(int(count)), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    return figure


def overlay(axis: Axes, image: Any, strength: Any) -> None:
    """A picture with a map of strengths over it: grey where the strength is low.

    A dark picture is brightened first, so that one sees what the map leaves out.

    Args:
        axis: where to draw.
        image: shape (H, W, 3), values 0..1.
        strength: shape (H, W), values 0..1.
    """
    picture, strength = np.asarray(image, float), np.asarray(strength, float)[..., None]
    picture = np.clip(picture / max(np.quantile(picture, 0.99), 0.3), 0, 1)
    grey = picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1) ** 0.7
    axis.imshow(np.clip(0.48 * grey * (1 - strength) + picture * strength, 0, 1))
    axis.contour(strength[..., 0], levels=[0.5], colors=[COLOURS["yellow"]], linewidths=1.5)
    axis.axis("off")


def intervals(
    rows: Mapping[str, tuple[float, float, float]], xlabel: str, zero: bool = True
) -> Figure:
    """Estimates with their intervals, one a row.

    Args:
        rows: name to (estimate, low, high).
        xlabel: with the unit.
        zero: draw a line at zero.
    """
    figure, axes = new_axes(6.4, (0.5 if len(rows) <= 12 else 0.3) * len(rows) + 0.9)
    axis = axes[0, 0]
    for position, (_, (middle, low, high)) in enumerate(reversed(list(rows.items()))):
        axis.plot([low, high], [position, position], color=COLOURS["blue"], linewidth=2)
        axis.plot(middle, position, "o", color=COLOURS["blue"])
        axis.annotate(
            f"{middle:.2f}".replace("-0.00", "0.00"), (middle, position), xytext=(0, 6),
            textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axis.set_yticks(range(len(rows)), list(reversed(list(rows))))
    axis.set_ylim(-0.5, len(rows) - 0.4)
    axis.set_xlabel(xlabel)
    if zero:
        axis.axvline(0, color="#222222", linewidth=0.8)
    return figure


def strips(rows: Mapping[str, Sequence[tuple[str, float]]], xlabel: str) -> Figure:
    """Strips of pieces in a row, such as the parts of a file or the entries of a state dict.

    A kind of piece has one colour and one hatching in all strips.

    Args:
        rows: name of the strip -> its pieces from left to right, as (kind, length).
        xlabel: with the unit of the lengths.

    Raises:
        ValueError: more kinds than can be told apart.
    """
    styles = [("#E4E4E4", ""), (COLOURS["sky"], "//"), (COLOURS["orange"], ""),
              (COLOURS["green"], ".."), (COLOURS["purple"], "xx")]  # fmt: skip
    kinds = list(dict.fromkeys(kind for pieces in rows.values() for kind, _ in pieces))
    if len(kinds) > len(styles):
        raise ValueError(f"strips can tell {len(styles)} kinds apart; there are {len(kinds)}.")
    figure, axes = new_axes(7.2, 0.42 * len(rows) + 1.1)
    axis = axes[0, 0]
    named: set[str] = set()
    for number, pieces in enumerate(rows.values(), start=1):
        start = 0.0
        for kind, length in pieces:
            colour, hatch = styles[kinds.index(kind)]
            axis.barh(
                len(rows) - number, length, left=start, height=0.7, color=colour, hatch=hatch,
                edgecolor=(0, 0, 0, 0.4), linewidth=0.4, label="_" * (kind in named) + kind,
            )  # fmt: skip
            named.add(kind)
            start += length
    axis.set_yticks(range(len(rows)), list(reversed(list(rows))))
    axis.set_xlabel(xlabel)
    axis.grid(False)
    axis.margins(x=0)
    figure.legend(loc="outside upper center", ncols=min(len(kinds), 3), fontsize=8)
    return figure


def interval_panels(
    panels: Mapping[str, Mapping[str, tuple[float, float, float]]],
    xlabel: str,
    marked: Mapping[str, str],
) -> Figure:
    """Small plots of estimates with their intervals, two in a row, all over the same axis.

    Args:
        panels: title to rows; each row a name to (estimate, low, high).
        xlabel: with the unit.
        marked: panel title to the row that is drawn with a filled square instead of an open circle.
    """
    lines_of = -(-len(panels) // 2)
    longest = max(len(rows) for rows in panels.values())
    figure, axes = new_axes(8, lines_of * (0.3 * longest + 0.55) + 0.3, lines_of, 2)
    ends = [end for rows in panels.values() for each in rows.values() for end in each[1:]]
    room = 0.04 * (max(ends) - min(ends))
    for place, (axis, (title, rows)) in enumerate(zip(axes.flat, panels.items(), strict=False)):
        for position, (name, (middle, low, high)) in enumerate(reversed(list(rows.items()))):
            this = name == marked.get(title)
            colour = COLOURS["red"] if this else COLOURS["blue"]
            axis.plot([low, high], [position, position], color=colour, linewidth=2)
            axis.plot(
                middle, position, "s" if this else "o", color=colour,
                markerfacecolor=colour if this else "white",
            )  # fmt: skip
        axis.set_yticks(range(len(rows)), list(reversed(list(rows))), fontsize=8)
        axis.set_ylim(-0.6, longest - 0.4)
        axis.set_xlim(min(ends) - room, max(ends) + room)
        axis.set_title(title, fontsize=10)
        if place >= len(panels) - 2:
            axis.set_xlabel(xlabel, fontsize=8)
    return figure


def three_ways() -> Figure:
    """Train, fine-tune, freeze: where each layer's weights come from, and whether they move."""
    parts = ("early layers", "middle layers", "late layers", "head")
    new, copied, held = "random\nlearns", "copied\nlearns slowly", "copied\nstays"
    ways = {
        "train from scratch": (new, new, new, new),
        "fine-tune": (copied, copied, copied, new),
        "freeze all but the head": (held, held, held, new),
    }
    grounds = {new: "white", copied: "#D6E9F5", held: "#D9D9D9"}
    figure = new_figure(8, 3.9)
    axis = figure.add_subplot()
    axis.set_xlim(-0.95, 2.4)
    axis.set_ylim(-0.75, 4.55)
    axis.axis("off")
    middle: dict[str, Any] = {"ha": "center", "va": "center"}
    for height, part in enumerate(parts):
        axis.text(-0.95, height, part, ha="left", va="center", fontsize=9)
    for column, (way, layers) in enumerate(ways.items()):
        axis.text(column, 4.35, way, weight="bold", **middle)
        axis.text(column, -0.62, "picture", fontsize=9, **middle)
        for height, layer in enumerate(layers):
            box = FancyBboxPatch(
                (column - 0.36, height - 0.3), 0.72, 0.6, facecolor=grounds[layer],
                boxstyle="round,pad=0.02,rounding_size=0.06", edgecolor="#222222",
                linewidth=2.5 if layer == held else 1.2, linestyle="--" if layer == new else "-",
            )  # fmt: skip
            axis.add_patch(box)
            axis.text(column, height, layer, fontsize=9, linespacing=1.15, **middle)
        for below, above in ((-0.52, -0.33), (0.33, 0.67), (1.33, 1.67), (2.33, 2.67), (3.33, 3.7)):
            axis.annotate(
                "", (column, above), (column, below),
                arrowprops={"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
        axis.text(column, 3.88, "classes", fontsize=9, **middle)
    return figure


def picture_map(
    points: Any,
    images: Sequence[Any],
    targets: Sequence[int],
    classes: Sequence[str],
    labels: tuple[str, str] = ("", ""),
) -> Figure:
    """A map with pictures as its points, framed by class: by colour and by the frame's shape.

    Args:
        points: shape (N, 2), where each picture's middle goes.
        images: N pictures, PIL or arrays of shape (H, W, 3).
        targets: the class of each, as a number.
        classes: their names, six at most.
        labels: of the two axes.

    Raises:
        ValueError: not as many points and classes as pictures.
    """
    places = np.asarray(points, float)
    if not len(places) == len(images) == len(targets):
        raise ValueError(
            f"A map needs a point, a picture and a class each; there are {len(places)}, "
            f"{len(images)} and {len(targets)}."
        )
    shapes = ("round,pad=0.25,rounding_size=0.5", "square,pad=0.12", "sawtooth,pad=0.2",
              "roundtooth,pad=0.2", "larrow,pad=0.1", "rarrow,pad=0.1")  # fmt: skip
    figure, axes = new_axes(7.2, 5.2)
    axis = axes[0, 0]
    axis.scatter(*places.T, s=0)  # so that the axes find their limits
    axis.margins(0.06)
    for place, image, target in zip(places, images, targets, strict=True):
        pixels = np.asarray(image)
        frame = {
            "boxstyle": shapes[target], "edgecolor": CYCLE[target], "facecolor": CYCLE[target],
        }  # fmt: skip
        # 0.3 inches a picture: a point is 1/72 inch, and OffsetImage shows a pixel as one point.
        thumbnail = OffsetImage(pixels, zoom=0.3 * 72 / max(pixels.shape[:2]))
        axis.add_artist(AnnotationBbox(thumbnail, tuple(place), pad=0.0, bboxprops=frame))
    for target, name in enumerate(classes):
        marker = "os^Dv<"[target]
        axis.plot([], [], marker, color=CYCLE[target], label=name)
    figure.legend(loc="outside upper center", ncols=len(classes), fontsize=8)
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    return figure


def matching(similarity: Any, images: Sequence[Any], lines: Sequence[str]) -> Figure:
    """A heat map of how alike pictures and sentences are: a row a sentence, a column a picture.

    The largest value of each row is framed, so that it can be told without colour.

    Args:
        similarity: shape (sentences, pictures).
        images: the pictures, PIL or arrays of shape (H, W, 3); they stand above their columns.
        lines: the sentences.

    Raises:
        ValueError: not a row for each sentence and a column for each picture.
    """
    values = np.asarray(similarity, float)
    if values.shape != (len(lines), len(images)):
        raise ValueError(
            f"The map has the shape {values.shape}; expected ({len(lines)}, {len(images)}), a row "
            "for each sentence and a column for each picture."
        )
    figure, axes = new_axes(8, 0.42 * len(lines) + 1.3)
    axis = axes[0, 0]
    axis.grid(False)
    shown = axis.imshow(values, cmap="cividis", aspect="auto")
    figure.colorbar(shown, label="cosine", shrink=0.8)
    for row, column in enumerate(values.argmax(1)):
        axis.plot(column, row, "s", color="white", markersize=8, markerfacecolor="none")
    for column, image in enumerate(images):
        pixels = np.asarray(image)
        thumbnail = OffsetImage(pixels, zoom=0.5 * 72 / max(pixels.shape[:2]))
        spot: Any = {"xycoords": ("data", "axes fraction"), "box_alignment": (0.5, 0), "pad": 0.0}
        axis.add_artist(AnnotationBbox(thumbnail, (column, 1.03), frameon=False, **spot))
    axis.set_yticks(range(len(lines)), lines, fontsize=8)
    axis.set_xticks(range(len(images)), range(1, len(images) + 1))
    axis.set_xlabel("picture")
    return figure


def course_map(chapters: Sequence[Chapter]) -> Figure:
    """The chapters as stops on a map, with arrows to what builds on them.

    A chapter that isn't in this checkout yet has a dashed, grey frame.
    """
    last = max(each.place[0] for each in chapters)
    figure = new_figure(2 * last + 2, 3.6)
    axis = figure.add_subplot()
    axis.set_xlim(-0.55, last + 0.55)
    axis.set_ylim(-0.45, 2.45)
    axis.axis("off")
    places = {chapter.number: chapter.place for chapter in chapters}
    boxes = {chapter.number: _stop(axis, chapter) for chapter in chapters}
    for chapter in chapters:
        for before in chapter.after:
            arrow = FancyArrowPatch(
                places[before], chapter.place, arrowstyle="-|>", mutation_scale=14,
                patchA=boxes[before], patchB=boxes[chapter.number], shrinkA=2, shrinkB=3,
                color="#555555", linewidth=1.5,
            )  # fmt: skip
            axis.add_patch(arrow)
    return figure


def _stop(axis: Axes, chapter: Chapter) -> FancyBboxPatch:
    (x, y), here = chapter.place, chapter.written
    colour = COLOURS["blue"] if here else "#767676"
    box = FancyBboxPatch(
        (x - 0.33, y - 0.28), 0.66, 0.56, boxstyle="round,pad=0.02,rounding_size=0.08",
        facecolor="#EAF3FA" if here else "white", edgecolor=colour, linewidth=1.5,
        linestyle="-" if here else "--", zorder=2,
    )  # fmt: skip
    axis.add_patch(box)
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 3}
    axis.text(x, y + 0.16, chapter.number, fontsize=12, weight="bold", color=colour, **middle)
    axis.text(x, y - 0.08, chapter.title, fontsize=9, **middle)
    return box
