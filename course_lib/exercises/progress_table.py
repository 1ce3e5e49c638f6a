"""What you have solved, as a table."""

from dataclasses import dataclass
from html import escape

from course_lib.exercises import progress_file
from course_lib.exercises.registry import chapters, exercises_of, questions_of
from course_lib.text import few


@dataclass(frozen=True)
class ChapterProgress:
    """How far you are in one chapter.

    Attributes:
        chapter: its number.
        exercises: how many it has.
        passed: numbers of those you passed.
        tried: numbers of those you tried and have not passed yet.
        questions: how many it has.
        answered: how many of them you answered rightly.
    """

    chapter: str
    exercises: int
    passed: tuple[str, ...]
    tried: tuple[str, ...]
    questions: int
    answered: int


@dataclass(frozen=True)
class Progress:
    """All chapters, and a note when something about the file should be known."""

    rows: tuple[ChapterProgress, ...]
    note: str

    def _cells(self) -> list[tuple[str, ...]]:
        head: tuple[str, ...] = (
            "chapter",
            "exercises passed",
            "questions right",
            "tried, open",
        )
        return [head] + [
            (
                row.chapter,
                f"{len(row.passed)} of {row.exercises}",
                f"{row.answered} of {row.questions}",
                ", ".join(row.tried) or "-",
            )
            for row in self.rows
        ]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        columns = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
        rows = "".join(
            f'<tr><th scope="row">{escape(first)}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
            + "</tr>"
            for first, *rest in body
        )
        note = f"<p>{escape(self.note)}</p>" if self.note else ""
        return f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>{note}"


def progress() -> Progress:
    """How far you are, from the file that :mod:`course_lib.exercises.progress_file` keeps."""
    known = progress_file.entries()

    def row(chapter: str) -> ChapterProgress:
        numbers = [exercise.number for exercise in exercises_of(chapter)]
        questions = [f"q{question.number}" for question in questions_of(chapter)]
        right = {number for number, entry in known.items() if entry["passed"]}
        return ChapterProgress(
            chapter,
            len(numbers),
            tuple(number for number in numbers if number in right),
            tuple(
                number
                for number in numbers
                if number not in right and known.get(number, progress_file.EMPTY)["attempts"]
            ),
            len(questions),
            sum(number in right for number in questions),
        )

    return Progress(tuple(row(chapter) for chapter in chapters()), _note())


def _note() -> str:
    if progress_file.location() is None:
        return "No progress is kept, since COURSE_PROGRESS is off."
    aside, odd = progress_file.set_aside(), progress_file.passed_over()
    if not aside and odd:
        return (
            f"The progress file holds what this version of the course doesn't know ({few(odd)}): "
            "it is kept, and passed over."
        )
    if not aside:
        return ""
    return (
        f"A progress file could not be read. It was set aside as {aside[-1].name} in "
        f"{aside[-1].parent}, and a new one begun; delete it if you don't miss it."
    )
