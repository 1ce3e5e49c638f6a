"""A table of short words with reasons behind them: for the terminal, and for a notebook."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from course_lib.errors import UnknownNameError, suggest
from course_lib.text import WIDTH, ruled

SIGNS = {True: "✓", False: "✗"}
COLOURS = {True: "#0072B2", False: "#D55E00"}  # of Okabe and Ito; the sign says the same


@dataclass(frozen=True)
class Cell:
    """One answer.

    Attributes:
        word: the answer in a word.
        good: whether it is what freezing is meant to do.
        why: a sentence with what was found.
    """

    word: str
    good: bool
    why: str

    def __str__(self) -> str:
        return f"{SIGNS[self.good]} {self.word}"


@dataclass(frozen=True, repr=False)
class Matrix:
    """Questions down, methods across.

    ``matrix[2, "memory"]`` is the cell of the second method; its full title does as well as its
    number.
    """

    methods: tuple[str, ...]
    questions: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def __getitem__(self, place: tuple[int | str, str]) -> Cell:
        """The cell of a method, by number from 1 or by title, and a question.

        Raises:
            UnknownNameError: the table has no such row or column.
        """
        method, question = place
        if isinstance(method, int) and 1 <= method <= len(self.methods):
            method = self.methods[method - 1]
        for name, known in ((method, self.methods), (question, self.questions)):
            if name not in known:
                raise UnknownNameError(
                    f"The matrix has no {name!r}.{suggest(str(name), known)} "
                    f"It has: {', '.join(known)}."
                )
        return self.cells[str(method), question]

    def bad(self, method: int | str) -> list[str]:
        """The questions that a method answers otherwise than freezing is meant to."""
        return [each for each in self.questions if not self[method, each].good]

    def table(self) -> str:
        """The table as text; methods by their numbers."""
        lines = [["", *map(str, range(1, len(self.methods) + 1))]]
        lines += [[q, *(str(self[m, q]) for m in self.methods)] for q in self.questions]
        return ruled(lines)

    def reasons(self) -> str:
        """Why, for every cell that isn't good; equal reasons said once."""
        return "\n".join(
            textwrap.fill(f"{SIGNS[False]} {line}", WIDTH, subsequent_indent="  ")
            for line in self._bad_lines()
        )

    def _bad_lines(self) -> list[str]:
        return [
            f"{question}, {_numbers(numbers)}: {why}"
            for question in self.questions
            for why, numbers in self._reasons(question).items()
        ]

    def _reasons(self, question: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, method in enumerate(self.methods, start=1):
            cell = self[method, question]
            if not cell.good:
                found.setdefault(cell.why, []).append(number)
        return found

    def __str__(self) -> str:
        legend = [f"{number}  {title}" for number, title in enumerate(self.methods, start=1)]
        return "\n".join([self.table(), "", *legend])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="{_LEFT};vertical-align:bottom">{number}. {escape(title)}</th>'
            for number, title in enumerate(self.methods, start=1)
        )
        body = "".join(
            f'<tr><th scope="row" style="{_LEFT};white-space:nowrap">{escape(question)}</th>'
            + "".join(_html_cell(self[method, question]) for method in self.methods)
            + "</tr>"
            for question in self.questions
        )
        why = "".join(f"<li>{escape(line)}</li>" for line in self._bad_lines())
        return (
            f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
            f"<details><summary>Why, for every ✗</summary><ul>{why}</ul></details>"
        )


_LEFT = "text-align:left"


def _html_cell(cell: Cell) -> str:
    # The word keeps the page's own text colour, readable in light and dark; the bar is coloured.
    return (
        f'<td style="{_LEFT};white-space:nowrap" title="{escape(cell.why)}">'
        f'<span style="border-left:0.4em solid {COLOURS[cell.good]};padding-left:0.4em">'
        f"{escape(str(cell))}</span></td>"
    )


def _numbers(numbers: Sequence[int]) -> str:
    """``[1, 2, 4]`` as "methods 1, 2, 4"."""
    return f"method{'s' if len(numbers) > 1 else ''} " + ", ".join(map(str, numbers))
