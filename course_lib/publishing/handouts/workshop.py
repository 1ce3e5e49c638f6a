"""A chapter for a room: what to predict, what to draw, what to solve; results stand elsewhere.

Four to six pages to print for everybody, a quiz sheet, and for the teacher the answers to both.
All is taken from the chapter's notebook. What follows a prediction there is never printed here.
``content/workshop.toml`` names the few figures that tell no result, and what belongs to no paper.
"""

import ast
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from course_lib import evidence
from course_lib.chapters import CHAPTERS
from course_lib.display import plots
from course_lib.exercises.core import Exercise
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import editions, markdown, paper
from course_lib.publishing.handouts.document import (
    Block,
    Document,
    HandoutError,
    Paragraph,
    bold,
    line,
    words,
)

WORKSHOP, QUIZ, ANSWERS = "workshop edition", "quiz sheet", "workshop answers"
FEWEST, MOST = 4, 6  # pages
CODE = 14  # lines of code that may stand before a prediction
TOGETHER = 900  # letters: a prediction and a longer text before it may be parted
LINES = 9  # at most, to write an answer on
ABOUT = Path(__file__).parent / "content" / "workshop.toml"
GOALS, SUMMARY, LEDGER = "What you will be able to do", "Summary", "11"
APART = (GOALS, SUMMARY, "Pitfalls", "Exercises", "Sources")


@dataclass(frozen=True)
class Parts:
    """A chapter, taken apart: what comes before results, exercises, questions, results."""

    title: str
    question: str
    opening: list[Block]
    predictions: list[Block]  # and what leads to each; no results
    exercises: list[doc.Box]
    questions: list[doc.Box]
    results: list[tuple[str, list[doc.Box]]]
    summary: list[Block]
    sections: list[editions.Section]
    maker: editions.Maker


def make(name: str, notebook: Any, address: str | None = None) -> Document:
    """The workshop edition of a chapter: :data:`FEWEST` to :data:`MOST` pages.

    Exercises stand in the order of the chapter, as many as fit; the others are named.

    Args:
        name: the chapter, such as ``"02_hotdog"``.
        notebook: executed, as nbformat reads it.
        address: where the notebook is, if it is known.

    Raises:
        HandoutError: predictions alone need more pages, all of it less, or something that
            ``content/workshop.toml`` names isn't in the notebook.
    """
    parts = taken_apart(name, notebook)
    for count in range(len(parts.exercises), -1, -1):
        blocks = (*parts.opening, *parts.predictions, *_exercises(parts, count))
        made = Document(f"{name[:2]}  {parts.title}", WORKSHOP, parts.question, blocks, address)
        if FEWEST <= paper.pages(made) <= MOST:
            return made
    raise HandoutError(
        f"The workshop edition of {name} has no {FEWEST} to {MOST} pages: name more, or less, of "
        f"the chapter in {ABOUT.name}, or change the text before its predictions."
    )


def quiz(name: str, notebook: Any, address: str | None = None) -> Document | None:
    """The chapter's questions on a sheet of their own; None where it has none."""
    parts = taken_apart(name, notebook)
    if not parts.questions:
        return None
    blocks: list[Block] = [doc.Blank("Name, if you want your sheet back"), *parts.questions]
    return Document(
        f"{name[:2]}  {parts.title}", QUIZ, parts.question, tuple(blocks), address, one_page=True
    )


def answers(name: str, notebook: Any, address: str | None = None) -> Document:
    """For the teacher: what came out, every solution, the quiz explained, the summary."""
    parts = taken_apart(name, notebook)
    blocks: list[Block] = []
    if parts.results:
        blocks.append(doc.Heading(2, line("What happened")))
    for title, boxes in parts.results:
        blocks.append(doc.Heading(3, line(title)))
        for box in boxes:
            blocks += [each for each in box.inside if not isinstance(each, doc.Program)]
    if parts.exercises:
        blocks.append(doc.Heading(2, line("Solutions")))
        blocks += [_solved(each) for each in parts.maker.exercises.values()]
    if parts.questions:
        blocks.append(doc.Heading(2, line("The quiz")))
        blocks += parts.maker.answers()[3:]  # without new page, heading and advice
    blocks += parts.summary
    return Document(f"{name[:2]}  {parts.title}", ANSWERS, parts.question, tuple(blocks), address)


def taken_apart(name: str, notebook: Any) -> Parts:
    """A chapter's notebook in parts; arguments and errors as of :func:`make`."""
    number = name[:2]
    maker = editions.maker_for(name)
    title, sections = maker.sections(notebook)
    chapter = next((each for each in CHAPTERS if each.name == name), None)
    chosen = about(name)
    wanted, unsaid = list(chosen.get("figures", ())), list(chosen.get("left_out", ()))
    found: list[Block] = []
    results: list[tuple[str, list[doc.Box]]] = []
    for section in sections:
        section.blocks = [_without(each, unsaid) for each in section.blocks]
    opening, summary = list(sections[0].blocks), []
    everything = [each for section in sections for each in section.blocks]
    predicts = any(is_box(each, "prediction") for each in everything)
    for section in sections[1:]:
        if section.title == GOALS:
            opening += filter(_prose, section.blocks)
        if section.title == SUMMARY:
            summary = section.blocks
        if section.title in chosen.get("whole", () if predicts else {section.title} - {*APART}):
            found += _whole(section.blocks, wanted)
            continue
        kept = list(_before_results(section.blocks, wanted, chosen))
        found += kept
        if kept and number == LEDGER:
            found.append(_bets())
        boxes = [each for each in section.blocks if is_box(each, "result")]
        if boxes:
            results.append((section.title or "", boxes))
    if wanted or unsaid:
        what = "a figure, its text alternative begins" if wanted else "a sentence, it begins"
        raise HandoutError(
            f"{ABOUT.name} names what isn't in {name}: {what} {[*wanted, *unsaid][0]!r}."
        )
    return Parts(
        title, chapter.question if chapter else "", opening, found,
        [each for each in everything if is_box(each, "exercise")] or _for_paper(sections),
        [each for each in everything if is_box(each, "question")],
        results, summary, sections, maker,
    )  # fmt: skip


@cache
def _about() -> dict[str, Any]:
    return tomllib.loads(ABOUT.read_text(encoding="utf-8"))


def about(name: str) -> dict[str, Any]:
    """What ``content/workshop.toml`` says of a chapter; it explains itself."""
    chosen: dict[str, Any] = _about().get(name[:2], {})
    return chosen


def is_box(block: Block, kind: str) -> TypeGuard[doc.Box]:
    """Whether a block is a box of that kind."""
    return isinstance(block, doc.Box) and block.kind == kind


def _prose(block: Block) -> bool:
    return isinstance(block, doc.Heading | Paragraph | doc.Bullets | doc.Table | doc.Formula)


def _without(block: Block, unsaid: list[str]) -> Block:
    """A paragraph without the sentences that begin so; they are struck off the list."""
    if not isinstance(block, Paragraph):
        return block
    left: list[doc.Inline] = []
    for plain, parts in itertools.groupby(block.inside, lambda each: isinstance(each, doc.Text)):
        if not plain:
            left += parts
            continue
        text = words(tuple(parts))
        for begins in list(unsaid):
            text, found = re.subn(rf"\s*{re.escape(begins)}.*?[.:](?=\s|$)", "", text)
            if found:
                unsaid.remove(begins)
        left.append(doc.Text(text))
    return Paragraph(tuple(left))


def _whole(blocks: Iterable[Block], wanted: list[str]) -> Iterator[Block]:
    """A section in which nothing was to be predicted: all but its code and other figures."""
    before = ""
    for block in blocks:
        shown = _prose(block) or isinstance(block, doc.Output) or _strike(block, wanted)
        if isinstance(block, doc.Program):
            shown = before.endswith(":") or block.language != "python"
        if shown and words(block).strip() != before:
            yield block
            before = words(block).strip()


def _for_paper(sections: Iterable[editions.Section]) -> list[doc.Box]:
    """The exercises of a chapter that has them in words only, with room to write."""
    asked = [each for section in sections if section.title == "Exercises"
             for each in section.blocks if isinstance(each, Paragraph)]  # fmt: skip
    return [doc.Box("exercise", "On paper", (*asked, doc.Room(LINES)))] if asked else []


def _before_results(
    blocks: Iterable[Block], wanted: list[str], about: dict[str, Any]
) -> Iterator[Block]:
    """Predictions and wanted figures, with the prose that leads to them; nothing behind a result.

    A figure that was found is struck off the list.
    """
    section: list[Block] = []  # its heading, until it is used
    leading: list[Block] = []
    behind = False  # a result; then only what a heading begins anew leads to something
    names: set[str] = set()  # of what was predicted last
    for block in blocks:
        if isinstance(block, doc.Heading):
            section = [block] if block.level == 2 else section
            leading, behind = [], False
        elif is_box(block, "result"):
            leading, behind = [], True
            yield from (each for each in block.inside if _strike(each, wanted))
            if names & {*about.get("code", ())}:
                code = next(each for each in block.inside if isinstance(each, doc.Program))
                yield doc.Program(_quiet(code.code))
        elif _strike(block, wanted):
            yield from (*section, *leading, block)
            section, leading = [], []
        elif is_box(block, "prediction"):
            yield from _together([*section, *leading, block])
            section, leading = [], []
            names = {each.label for each in block.inside if isinstance(each, doc.Blank)}
            yield from (_axes(**each) for each in about.get("draw", ()) if each["behind"] in names)
        elif isinstance(block, doc.Program) and leading and words(leading[-1])[-1] == ":":
            if block.code.count("\n") < CODE:
                leading.append(block)
            elif isinstance(before := leading.pop(), Paragraph):
                leading.append(Paragraph((*before.inside, doc.Text(" see the notebook."))))
        elif not behind and _prose(block):
            leading.append(block)


def _together(blocks: list[Block]) -> list[Block]:
    """Kept on one page if that is no great part of one; else the last of it is."""
    if len(words(blocks)) <= TOGETHER and not any(isinstance(b, doc.Table) for b in blocks):
        return [doc.Box("together", "", tuple(blocks))]
    return blocks


def _strike(block: Block, wanted: list[str]) -> bool:
    """Whether it is a wanted picture, which is then no longer wanted."""
    alt = block.alt if isinstance(block, doc.Picture) else ""
    found = next((each for each in wanted if alt.startswith(each)), None)
    if found is not None:
        wanted.remove(found)
    return found is not None


def _axes(
    behind: str, lines: list[str], x: str, x_ticks: list[float], y: str, y_ticks: list[float]
) -> Block:
    """Empty axes to draw an expectation into."""
    figure, grid = plots.new_axes(4.8, 2.1)
    axis = grid[0, 0]
    axis.set_xticks(range(len(x_ticks)), [f"{each:g}" for each in x_ticks])
    axis.set_xlim(-0.3, len(x_ticks) - 0.7)
    axis.set_yticks(y_ticks)
    axis.set_ylim(y_ticks[0] - 0.02, y_ticks[-1] + 0.02)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    made = plots.encode(figure)
    alt = f"Empty axes, to draw into what you expect of {behind}: {y} over {x}, from "
    alt += f"{x_ticks[0]:g} to {x_ticks[-1]:g}, a line for each: {', '.join(lines)}."
    said = Paragraph(line(f"Draw what you expect, a line for each: {', '.join(lines)}."))
    picture = doc.Picture(made.data, made.kind, alt, made.width / plots.DPI)
    return doc.Box("together", "", (said, picture))


def _exercises(parts: Parts, count: int) -> Iterator[Block]:
    """So many of them; the others by name."""
    if count:
        yield doc.Heading(2, line("Exercises"))
    for box in parts.exercises[:count]:
        rooms = (
            replace(each, lines=min(each.lines, LINES)) if isinstance(each, doc.Room) else each
            for each in box.inside
        )
        yield replace(box, inside=tuple(rooms))
    rest = list(parts.maker.exercises.values())[count:]
    if rest:
        named = "; ".join(f"{each.number} {each.title}" for each in rest)
        yield Paragraph((*bold("More in the notebook: "), *line(f"{named}.")))


def _quiet(code: str) -> str:
    """Code without the statements that only print, or set a result beside a prediction."""
    lines = code.splitlines()
    for node in reversed(ast.parse(code).body):
        match node:
            case ast.Expr(ast.Call(ast.Name("print" | "compare"))):
                del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).strip("\n")


def _bets() -> Block:
    """Every claim of the ledger, with places to tick what one would bet on."""
    tick = ((doc.Text("☐"),),) * 4
    said = [each for each in evidence.CLAIMS if re.fullmatch(r"C\d+", each.id)]
    rows = tuple((line(each.id), line(each.text), *tick) for each in said)
    header = ("", "claim", "held", "no difference", "did not hold", "undecided")
    return doc.Table(tuple(map(line, header)), rows)


def _solved(exercise: Exercise) -> Block:
    inside = (doc.Program(exercise.solution_code), *markdown.read_little(exercise.why))
    return doc.Box("teacher", exercise.heading, inside)
