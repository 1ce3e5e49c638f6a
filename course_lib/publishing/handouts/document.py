"""What a handout is made of: a few kinds of blocks, written by two writers (paper and page).

Notebooks, cheat sheets and plans are all turned into these. So whatever is true of one handout,
such as that a picture has a text alternative, is said here once and holds for all.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from course_lib.errors import CourseError

# What steers a text instead of being read: control characters, halves of characters, marks that
# turn the direction of reading.
_STEERS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


class HandoutError(CourseError, ValueError):
    """Something can't be set on paper."""


@dataclass(frozen=True)
class Text:
    """Plain words."""

    text: str


@dataclass(frozen=True)
class Code:
    """A piece of code in a line of text."""

    code: str


@dataclass(frozen=True)
class Math:
    """A formula in LaTeX's notation, in a line of text."""

    latex: str


@dataclass(frozen=True)
class Break:
    """A new line in the same paragraph."""


@dataclass(frozen=True)
class Strong:
    """Words that stand out."""

    inside: tuple["Inline", ...]


@dataclass(frozen=True)
class Emphasis:
    """Words in italics."""

    inside: tuple["Inline", ...]


@dataclass(frozen=True)
class Link:
    """Words that lead somewhere: an address, or another chapter's handout by its name."""

    inside: tuple["Inline", ...]
    to: str


Inline: TypeAlias = Text | Code | Math | Break | Strong | Emphasis | Link


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the document's title, which stands in its frame."""

    level: int
    inside: tuple[Inline, ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    inside: tuple[Inline, ...]


@dataclass(frozen=True)
class Bullets:
    """A list; each item is a sequence of blocks."""

    items: tuple[tuple["Block", ...], ...]
    numbered: bool = False
    start: int = 1


@dataclass(frozen=True)
class Program:
    """Code, in a block of its own."""

    code: str
    language: str = "python"


@dataclass(frozen=True)
class Output:
    """What code printed."""

    text: str


@dataclass(frozen=True)
class Formula:
    """A formula in LaTeX's notation, on a line of its own."""

    latex: str


@dataclass(frozen=True)
class Picture:
    """A picture, whole inside the document.

    Attributes:
        data: the file's bytes.
        kind: ``"png"``, ``"jpeg"`` or ``"svg"``.
        alt: what it tells, in words.
        inches: how wide the author made it.
    """

    data: bytes = field(repr=False)
    kind: str
    alt: str
    inches: float

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise HandoutError("A picture has no text alternative, and some readers can't see it.")


@dataclass(frozen=True)
class Table:
    """A table: a row of headings and rows of cells; numbers stand at the right."""

    header: tuple[tuple[Inline, ...], ...]
    rows: tuple[tuple[tuple[Inline, ...], ...], ...]
    right: tuple[bool, ...] = ()
    row_headings: bool = False


@dataclass(frozen=True)
class Box:
    """Blocks with a line at their left and a title.

    Attributes:
        kind: ``"exercise"``, ``"question"``, ``"prediction"``, ``"teacher"``, ``"note"``; or
            ``"result"``, what nobody should see before it was predicted: on a new page, or folded;
            or ``"together"``, which has neither line nor title and stays on one page.
        title: what stands at its top.
        inside: what is in it.
    """

    kind: str
    title: str
    inside: tuple["Block", ...]


@dataclass(frozen=True)
class Room:
    """Ruled lines to write on."""

    lines: int


@dataclass(frozen=True)
class Choices:
    """A question's options, each with a square to tick; ``right`` is ticked, if given."""

    options: tuple[tuple[str, tuple[Inline, ...]], ...]
    right: str | None = None


@dataclass(frozen=True)
class Blank:
    """A name, and a line to write its value on."""

    label: str


@dataclass(frozen=True)
class NewPage:
    """What follows begins on a new page."""


Block: TypeAlias = (Heading | Paragraph | Bullets | Program | Output | Formula | Picture | Table
                    | Box | Room | Choices | Blank | NewPage)  # fmt: skip


@dataclass(frozen=True)
class Document:
    """A handout.

    Attributes:
        title: on its first page and at the head of the others.
        edition: such as ``"student edition"``.
        subtitle: one line below the title, may be empty.
        blocks: what it says.
        address: where its notebook is, printed as a link and as a QR code; None: nowhere known.
        one_page: set in two columns, as large as fits on one page.
        size: of the type, in points, where it isn't that.
    """

    title: str
    edition: str
    subtitle: str
    blocks: tuple[Block, ...]
    address: str | None = None
    one_page: bool = False
    size: float = 10.0


def legible(text: str, backslash: str = "\\") -> str:
    """A text in which what would steer a reader's program is written out, such as ``\\x1b``.

    Args:
        text: a whole page in its own notation.
        backslash: how a backslash is written in that notation.
    """
    return _STEERS.sub(lambda found: backslash + ascii(found[0])[2:-1], text)


@contextmanager
def flat_enough() -> Iterator[None]:
    """What is thousands of levels deep is an error of ours, and no end of the stack."""
    try:
        yield
    except RecursionError as error:
        raise HandoutError(
            "There is too much inside of each other to be set: flatten it."
        ) from error


def line(text: str) -> tuple[Inline, ...]:
    """Plain words, as all that stands in a paragraph, a heading or a cell."""
    return (Text(text),)


def bold(text: str) -> tuple[Inline, ...]:
    """The same, standing out."""
    return (Strong(line(text)),)


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Every block, those inside of others too, in reading order."""
    for block in blocks:
        yield block
        if isinstance(block, Box):
            yield from walk(block.inside)
        elif isinstance(block, Bullets):
            for item in block.items:
                yield from walk(item)


def words(inside: object) -> str:
    """The text of anything above, as one line without marks."""
    if isinstance(inside, str):
        return inside
    if isinstance(inside, tuple | list):
        return "".join(words(each) for each in inside)
    if isinstance(inside, Break):
        return " "
    if isinstance(inside, Bullets):
        return " ".join(words(item) for item in inside.items)
    if isinstance(inside, Picture):
        return inside.alt
    if hasattr(inside, "__dataclass_fields__"):
        return "".join(words(getattr(inside, each.name)) for each in fields(inside))  # type: ignore[arg-type]
    return ""
