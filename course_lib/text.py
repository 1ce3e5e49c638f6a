"""Text for people: aligned tables, and words that depend on a number."""

import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 88  # characters a line: fits a terminal, a notebook and A4
_MONSTER = re.compile(r"(\S{150})\S{300,}(\S{50})")  # no name, and no path that one can read
_LINE = 5000  # characters


def ruled(lines: Sequence[Sequence[str]], heads: int = 1) -> str:
    """Aligned columns, with a rule below the heads.

    Args:
        lines: of equally many cells each.
        heads: how many lines stand above the rule.
    """
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    made = [*lines[:heads], ["─" * width for width in widths], *lines[heads:]]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in made)


def wrapped(line: str) -> str:
    """A line of text in as many as it takes; those after the first are set in by two more."""
    bare = line.lstrip(" ")
    start = " " * (len(line) - len(bare))
    return textwrap.fill(
        printable(bare), WIDTH, initial_indent=start, subsequent_indent=start + "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts, in the singular for 1.

    >>> counted(1, "tensor"), counted(1200, "tensor")
    ('1 tensor', '1,200 tensors')
    >>> counted(2, "buffer moves", "buffers move")
    '2 buffers move'

    Args:
        number: how many there are.
        one: what stands behind 1.
        many: what stands behind any other number; by default ``one`` with an "s".
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def few(things: Iterable[object], limit: int = 4, between: str = ", ") -> str:
    """The first few, and how many more there are.

    >>> few(["conv1", "bn1", "layer1"], limit=2)
    'conv1, bn1 and 1 more'
    """
    known = [printable(str(each)) for each in things]
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return between.join(known[:limit]) + more


def printable(text: str) -> str:
    """A text from elsewhere on one line, with what a terminal would obey written out.

    >>> printable("a" + chr(27) + "[31m")
    'a\\x1b[31m'

    Words of more than 500 characters, and texts of more than 5,000, lose their middle.
    """
    if len(text) > _LINE:
        text = f"{text[: _LINE // 2]} … {text[-_LINE // 2 :]}"
    shown = (each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return _MONSTER.sub(r"\1…\2", text if text.isprintable() else "".join(shown))


def printable_lines(text: str) -> str:
    """The same of a text whose line ends are one's own."""
    return "\n".join(map(printable, text.split("\n")))
