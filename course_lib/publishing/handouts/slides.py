"""A chapter as ten to twelve slides, from the same sources as its handouts.

First the question, at the end the summary; between them predictions, each before what happened,
figures, and one exercise. What to say stands in the talking points: beside each slide on the page,
and as a sheet of the speaker's.
"""

import base64
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import typst

from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import editions, page, paper, talking, workshop
from course_lib.publishing.handouts.document import (
    Block,
    Document,
    HandoutError,
    Inline,
    Paragraph,
    flat_enough,
    legible,
    line,
    words,
)
from course_lib.publishing.handouts.frame import COURSE, qr_code

FEWEST, MOST = 10, 12
LETTERS = 300  # of an idea on a slide
CODE_LETTERS = 72  # in a line of code
WITH_FIGURE = 0.42  # of a slide's height is for text, at most, where there is a figure
STYLE = paper.STYLE / "slides.css"
KEYS = """
addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1,
                ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...document.querySelectorAll("section")];
  const now = all.findIndex(each => each.getBoundingClientRect().bottom > innerHeight / 2);
  (all[now + step] || all[now]).scrollIntoView();
});
"""


@dataclass(frozen=True)
class Slide:
    """One slide: a title, little text, perhaps a figure; and what to say.

    Attributes:
        worth: which slides stay when there are too many; that of :data:`ALWAYS` do.
    """

    title: str
    blocks: tuple[Block, ...]
    picture: doc.Picture | None = None
    said: tuple[Block, ...] = ()
    worth: int = 0


ALWAYS = 99
HAPPENED = "What happened"


@dataclass(frozen=True)
class Deck:
    """A chapter's slides; the first one is its title and its question."""

    title: str
    subtitle: str
    slides: tuple[Slide, ...]
    address: str | None = None


def make(name: str, notebook: Any, address: str | None = None) -> Deck:
    """The slides of a chapter.

    Args:
        name: the chapter, such as ``"02_hotdog"``.
        notebook: executed, as nbformat reads it.
        address: where the notebook is, if it is known.

    Raises:
        HandoutError: the chapter has too little for :data:`FEWEST` slides.
    """
    parts = workshop.taken_apart(name, notebook)
    points = talking.points(name)
    opening = Slide(parts.title, (), said=points.opening, worth=ALWAYS)
    found = [opening]
    for section in parts.sections[1:]:
        if section.title in workshop.about(name).get("off_slides", ()):
            continue
        found += _of_section(section, points.for_section(section.title))
        if section.title == "Exercises" and parts.exercises:
            shortest = min(parts.exercises, key=lambda box: len(words(box.inside)))
            kept = tuple(b for b in shortest.inside if not isinstance(b, doc.Room))
            found.append(Slide(shortest.title, kept, worth=ALWAYS))
    found += [_asked(box) for box in parts.exercises[:1] if len(found) < FEWEST]
    found += [_asked(box) for box in parts.questions[: max(0, FEWEST - len(found))]]
    slides = _chosen(found)
    if len(slides) < FEWEST:
        raise HandoutError(f"{name} has only {len(slides)} slides: it needs {FEWEST}.")
    return Deck(f"{name[:2]}  {parts.title}", parts.question, slides, address)


def _chosen(found: Iterable[Slide]) -> tuple[Slide, ...]:
    """The slides that are worth most, as many as may be: a question with its answer, or neither."""
    units: list[list[Slide]] = []
    for slide in found:
        if slide.title == HAPPENED:
            units[-1].append(slide)
        else:
            units.append([slide])
    kept, room = set(), MOST
    for n in sorted(range(len(units)), key=lambda n: -max(each.worth for each in units[n])):
        if len(units[n]) <= room:
            kept.add(n)
            room -= len(units[n])
    return tuple(slide for n in sorted(kept) for slide in units[n])


def _asked(box: doc.Box) -> Slide:
    return Slide(box.title, tuple(b for b in box.inside if not isinstance(b, doc.Room)), worth=1)


def _of_section(section: editions.Section, said: tuple[Block, ...]) -> list[Slide]:
    """Its slides: the idea with what to predict, then what happened; or an idea with a figure."""
    title = section.title or ""
    if title in (workshop.GOALS, workshop.SUMMARY, "Pitfalls"):
        items = tuple(_short(each) for each in section.blocks if isinstance(each, doc.Bullets))
        return [Slide(title, items[:1], worth=5 if title == "Pitfalls" else ALWAYS, said=said)]
    if title in workshop.APART:
        return []
    found: list[Slide] = []
    idea: list[Block] = []
    for block in section.blocks:
        if isinstance(block, doc.Heading):
            idea = []
        elif isinstance(block, Paragraph) and words(block).startswith("Predict."):
            idea = [*idea[:1], Paragraph(_without_lines(block.inside))]
        elif isinstance(block, Paragraph) and not idea:
            idea.append(Paragraph(_beginning(block.inside)))
        elif isinstance(block, doc.Picture):
            first = not any(each.picture for each in found)
            found.append(Slide(title, tuple(idea[:1]), block, said, worth=6 if first else 3))
            idea, said = [], ()
        elif workshop.is_box(block, "prediction") and any("Predict." in words(i) for i in idea):
            found.append(Slide(title, tuple(idea), None, said, worth=4 + bool(said)))
            idea, said = [], ()
        elif workshop.is_box(block, "result") and found:  # never an answer alone
            found.append(_result(block))
    if not found and idea:
        found.append(Slide(title, tuple(idea), None, said, worth=2 + bool(said)))
    return found


def _result(box: doc.Box) -> Slide:
    """What happened: the numbers, the first figure, and how the explanation begins."""
    said = [b for b in box.inside if isinstance(b, Paragraph)]
    numbers = [b for b in said if words(b).startswith(HAPPENED)]
    why = [Paragraph(_beginning(b.inside)) for b in said if b not in numbers][:1]
    picture = next((b for b in box.inside if isinstance(b, doc.Picture)), None)
    return Slide(HAPPENED, (*numbers, *why), picture, worth=6 if picture else 3)


def _without_lines(inside: Iterable[Inline]) -> tuple[Inline, ...]:
    """A request to predict, where there are no lines to write on."""
    return tuple(
        doc.Text(each.text.replace(" on the lines", "")) if isinstance(each, doc.Text) else each
        for each in inside
    )


def _short(items: doc.Bullets) -> doc.Bullets:
    """The first seven items, each with its first sentence."""
    kept = tuple(
        (Paragraph(_beginning(item[0].inside, 1)),)
        for item in items.items[:7]
        if isinstance(item[0], Paragraph)
    )
    return doc.Bullets(kept, items.numbered, items.start)


def _beginning(inside: Iterable[Inline], letters: int = LETTERS) -> tuple[Inline, ...]:
    """The first sentences, as many as have so many letters; one at least."""
    sentences: list[list[Inline]] = [[]]
    for each in inside:
        if not isinstance(each, doc.Text):
            sentences[-1].append(each)
            continue
        first, *more = re.split(r"(?<=[.?!])\s+(?=[A-Z(])", each.text)
        sentences[-1].append(doc.Text(first))
        for text in more:
            sentences[-1].append(doc.Text(" "))
            sentences.append([doc.Text(text)])
    kept = sentences[0]
    for sentence in sentences[1:]:
        if len(words(kept)) + len(words(sentence)) > letters:
            break
        kept = [*kept, *sentence]
    if isinstance(kept[-1], doc.Text) and kept[-1].text.endswith(":"):
        kept = [*kept[:-1], doc.Text(kept[-1].text[:-1] + ".")]  # what follows isn't shown
    return tuple(kept)


def notes(deck: Deck) -> Document:
    """What to say at each slide, on paper."""
    blocks: list[Block] = []
    for number, slide in enumerate(deck.slides, start=1):
        blocks += [doc.Heading(2, line(f"{number}  {slide.title}")), *slide.said]
    return Document(deck.title, "speaker's notes", deck.subtitle, tuple(blocks))


class _Writer(paper._Writer):
    """Writes a slide's blocks; code is as large as the text around it allows."""

    def _code(self, kind: str, code: str, more: str = "") -> str:
        lines = paper._broken(code.rstrip().splitlines(), CODE_LETTERS)
        return f"#{kind}(size: 0.72em{more}, {paper.string(chr(10).join(lines))})"


@flat_enough()
def pdf(deck: Deck) -> bytes:
    """The slides as a PDF, one a page.

    Raises:
        HandoutError: a slide holds more than fits.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("paper.typ", "slides.typ", "print.tmTheme"):
            shutil.copy(paper.STYLE / name, folder / name)
        writer = _Writer(folder, one_page=False)
        parts = [_first(deck, folder)]
        parts += [_slide(slide, writer, folder, n) for n, slide in enumerate(deck.slides[1:])]
        show = f"title: {paper.string(deck.title)}, course: {paper.string(COURSE)}"
        head = f'#import "slides.typ": *\n#show: slides.with({show})\n'
        main = folder / "main.typ"
        source = legible(head + "\n\n".join(parts), "\\\\")
        main.write_text(source, encoding="utf-8")
        try:
            data = typst.compile(
                str(main), root=made, ignore_system_fonts=True, pdf_standards=["ua-1"]
            )
        except typst.TypstError as error:
            raise paper.refused(deck.title, error) from error
    assert isinstance(data, bytes)
    if paper._pages(data) != len(deck.slides):
        raise HandoutError(f"A slide of {deck.title!r} holds more than fits: shorten its section.")
    return data


def _first(deck: Deck, folder: Path) -> str:
    code = ""
    if deck.address:
        (folder / "qr.svg").write_bytes(qr_code(deck.address))
        code = f', qr: "qr.svg", address: {paper.string(deck.address)}'
    shown = map(paper.breakable, (deck.title, deck.subtitle, COURSE))
    texts = ", ".join(map(paper.string, shown))
    return f"#first-slide({texts}{code})"


def _slide(slide: Slide, writer: _Writer, folder: Path, number: int) -> str:
    shown, share = "", 1.0
    if slide.picture:
        name = f"slide{number}.{slide.picture.kind}"
        (folder / name).write_bytes(slide.picture.data)
        shown, share = f', picture: "{name}", alt: {paper.string(slide.picture.alt)}', WITH_FIGURE
    text = writer.blocks(slide.blocks)
    return f"#slide({paper.string(paper.breakable(slide.title))}, {share}, [{text}]{shown})"


@flat_enough()
def html(deck: Deck) -> str:
    """The slides as one HTML file: arrow keys lead through them, "To say" opens the notes."""
    title, subtitle = escape(deck.title), escape(deck.subtitle)
    link = escape(deck.address or "")
    where = f'<p><a href="{link}">{link}</a></p>' if link else ""
    sections = [
        f'<section class="first"><p>{escape(COURSE)}</p><h1>{title}</h1><p><em>{subtitle}</em></p>'
        f"{where}{_said(deck.slides[0])}</section>"
    ]
    for number, slide in enumerate(deck.slides[1:], start=2):
        sections.append(
            f"<section><h1>{escape(slide.title)}</h1>"
            f'<div class="text{_length(slide)}">{page.blocks(slide.blocks)}</div>'
            f'{_figure(slide)}{_said(slide)}<p class="number">{number}</p></section>'
        )
    return legible(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} (slides)</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>\n{chr(10).join(sections)}\n</main><script>{KEYS}</script></body></html>\n"
    )


def _length(slide: Slide) -> str:
    """The class of text that needs smaller type: by its lines, as long as they come out."""
    lines = sum(_lines(slide.blocks))
    room = (5, 8) if slide.picture else (12, 16)
    return " longer" if lines > room[1] else " long" if lines > room[0] else ""


def _lines(blocks: Sequence[Block]) -> Iterable[int]:
    for block in blocks:
        if isinstance(block, doc.Program | doc.Output):
            yield words(block).count("\n") + 2
        elif isinstance(block, doc.Bullets):
            yield from (len(textwrap.wrap(words(item), 75)) for item in block.items)
        else:
            yield len(textwrap.wrap(words(block), 80)) + 1


def _figure(slide: Slide) -> str:
    if not slide.picture:
        return ""
    data = base64.b64encode(slide.picture.data).decode()
    source = f"data:{page.MIME[slide.picture.kind]};base64,{data}"
    return f'<figure><img src="{source}" alt="{escape(slide.picture.alt)}"></figure>'


def _said(slide: Slide) -> str:
    if not slide.said:
        return ""
    return f'<details class="said"><summary>To say</summary>{page.blocks(slide.said)}</details>'
