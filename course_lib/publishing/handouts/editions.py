"""A chapter's notebook as a handout: one edition for those who learn, one for those who teach."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.chapters import CHAPTERS
from course_lib.exercises import exercises_of, questions_of
from course_lib.exercises.core import Exercise
from course_lib.exercises.quiz import Question
from course_lib.exercises.registry import chapters as with_exercises
from course_lib.publishing.handouts import markdown, outputs, talking, timing
from course_lib.publishing.handouts.document import (
    Blank,
    Block,
    Box,
    Bullets,
    Choices,
    Code,
    Document,
    HandoutError,
    Heading,
    NewPage,
    Paragraph,
    Program,
    Room,
    Table,
    Text,
    bold,
    line,
    words,
)

STUDENT, TEACHER = "student edition", "teacher edition"


@dataclass
class _Section:
    """A part of the chapter under a heading of level 2; the first one has none."""

    title: str | None
    blocks: list[Block] = field(default_factory=list)
    more_minutes: float = 0.0


def make(name: str, notebook: Any, edition: str, address: str | None = None) -> Document:
    """One edition of a chapter.

    Args:
        name: the chapter, such as ``"02_hotdog"``; its exercises are those of that number.
        notebook: executed, as nbformat reads it.
        edition: :data:`STUDENT` or :data:`TEACHER`.
        address: where the notebook is, if it is known.

    Raises:
        HandoutError: the notebook has something that can't be set, or no title.
    """
    number = name[:2]
    known = number in with_exercises()
    maker = _Maker(
        {each.name: each for each in exercises_of(number)} if known else {},
        {each.name: each for each in questions_of(number)} if known else {},
        teacher=edition == TEACHER,
    )
    title, sections = maker.sections(notebook)
    chapter = next((each for each in CHAPTERS if each.name == name), None)
    if edition == TEACHER:
        blocks = _for_teachers(name, sections)
    else:
        blocks = [block for section in sections for block in section.blocks]
        blocks += maker.answers()
    return Document(
        f"{number}  {title}", edition, chapter.question if chapter else "", tuple(blocks), address
    )


class _Maker:
    """Goes through a notebook's cells and makes sections of them."""

    def __init__(
        self, exercises: dict[str, Exercise], questions: dict[str, Question], teacher: bool
    ) -> None:
        self.exercises = exercises
        self.questions = questions
        self.teacher = teacher
        self.asked: list[Question] = []

    def sections(self, notebook: Any) -> tuple[str, list[_Section]]:
        """The title, and the sections in order.

        Raises:
            HandoutError: there is no title.
        """
        title, found = "", [_Section(None)]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                for block in markdown.read(cell.source):
                    if isinstance(block, Heading) and block.level == 1:
                        title = words(block.inside)
                        continue
                    if isinstance(block, Heading) and block.level == 2:
                        found.append(_Section(words(block.inside)))
                    found[-1].blocks.append(block)
            elif cell.cell_type == "code":
                blocks, minutes = self.cell(cell)
                found[-1].blocks += blocks
                found[-1].more_minutes += minutes
        for section in found:
            section.blocks = _with_room_to_predict(section.blocks)
        if not title:
            raise HandoutError("A notebook has no title: a heading of level 1.")
        return title, found

    def cell(self, cell: Any) -> tuple[list[Block], float]:
        """The blocks of a code cell, and the minutes that an exercise takes beside reading."""
        tree = _parsed(cell.source)
        for_hosts = {"setup", "keep"} & set(cell.metadata.get("tags", ()))
        if for_hosts or (tree and _only_exercise_imports(tree)):
            return [], 0.0
        if tree is not None:
            name = _lone_name(tree)
            if name in self.exercises:
                exercise = self.exercises[name]
                return self.exercise(exercise), exercise.minutes
            if name in self.questions:
                return self.question(self.questions[name]), timing.QUESTION
            answered = _answered(tree)
            if answered in self.exercises or answered in self.questions:
                return [], 0.0
            guesses = _guesses(tree)
            if guesses:
                title = "Your prediction"
                return [Box("prediction", title, tuple(map(Blank, guesses)))], 0.0
        shown: list[Block] = [Program(cell.source)] if cell.source.strip() else []
        shown += outputs.blocks_of(cell.get("outputs", ()))
        return [block for block in shown if words(block).strip()], 0.0

    def exercise(self, exercise: Exercise) -> list[Block]:
        """Question and stub; then room to write, or for teachers all that there is to know."""
        inside: list[Block] = [*markdown.read_little(exercise.question), Program(exercise.stub)]
        title = f"Exercise {exercise.number} ({exercise.minutes} minutes)"
        if not self.teacher:
            check = f"{exercise.name}.check({exercise.answer})"
            note = (Text("Your answer. In the notebook, "), Code(check), Text(" looks at it."))
            inside += [Paragraph(note), Room(_lines_to_write(exercise))]
            return [Box("exercise", title, tuple(inside))]
        return [Box("exercise", title, tuple(inside)), _solution(exercise)]

    def question(self, question: Question) -> list[Block]:
        """The question with squares to tick; for teachers ticked, and explained."""
        self.asked.append(question)
        options = tuple(
            (letter, markdown.little_line(option.text))
            for letter, option in question.options.items()
        )
        right = question.right if self.teacher else None
        title = f"Question {question.number}"
        inside = (*markdown.read_little(question.text), Choices(options, right))
        box = Box("question", title, inside)
        if not self.teacher:
            return [box]
        return [box, Box("teacher", f"Answer to question {question.number}", _explained(question))]

    def answers(self) -> list[Block]:
        """The page at the end of the student edition; nothing when no question was asked."""
        if not self.asked:
            return []
        found: list[Block] = [
            NewPage(),
            Heading(2, line("Answers to the questions")),
            Paragraph(line("Tick your answers first; then read why, also of those you didn't.")),
        ]
        for question in self.asked:
            title = f"Question {question.number}"
            found.append(Box("question", title, _explained(question)))
        return found


def _for_teachers(name: str, sections: Sequence[_Section]) -> list[Block]:
    """The timings first; then the sections, each with what to say."""
    points = talking.points(name)
    minutes = [_minutes(section) for section in sections]
    rows = [
        (line(s.title or "Opening"), line(str(n)), ())
        for s, n in zip(sections, minutes, strict=True)
    ]
    rows.append((bold("all of it"), bold(str(sum(minutes))), ()))
    found: list[Block] = [
        Heading(2, line("For the teacher")),
        *points.opening,
        Heading(3, line("Expected timings")),
        Paragraph(line(timing.RULE)),
        Table(tuple(map(line, ("section", "minutes", "yours"))), tuple(rows), (False, True, False)),
    ]
    unplaced = points.missing({section.title for section in sections})
    if unplaced:
        found.append(Box("teacher", "More to talk about", tuple(unplaced)))
    found.append(NewPage())
    for section in sections:
        blocks = list(section.blocks)
        said = points.for_section(section.title)
        if said:
            place = 1 if section.title else 0
            blocks.insert(place, Box("teacher", "Talking points", said))
        found += blocks
    return found


def _minutes(section: _Section) -> int:
    """Minutes for a section; the text around exercises is no extra."""
    if section.more_minutes:
        return timing.rounded(section.more_minutes)
    read = [b for b in section.blocks if not isinstance(b, Box) or b.kind == "prediction"]
    return timing.rounded(timing.minutes(read))


def _solution(exercise: Exercise) -> Box:
    """What a teacher wants to know of an exercise: solution, why, hints, likely wrong answers."""
    hints = tuple((Paragraph(markdown.little_line(hint)),) for hint in exercise.hints)
    inside: list[Block] = [
        Program(exercise.solution_code),
        *markdown.read_little(exercise.why),
        Paragraph(bold("Hints, in this order:")),
        Bullets(hints, numbered=True),
        Paragraph(bold("Likely wrong answers, and what the check says:")),
    ]
    for wrong in exercise.wrongs.values():
        inside += [Program(wrong.code), *markdown.read_little(wrong.message)]
    return Box("teacher", f"Solution of exercise {exercise.number}", tuple(inside))


def _explained(question: Question) -> tuple[Block, ...]:
    items = tuple(
        (
            Paragraph(
                (
                    *bold(f"{letter}) {'right' if option.right else 'wrong'}: "),
                    *markdown.little_line(option.text),
                    Text(" "),
                    *markdown.little_line(f"({option.why.strip()})"),
                )
            ),
        )
        for letter, option in question.options.items()
    )
    return (Paragraph((*line("Right: "), *bold(question.right))), Bullets(items))


def _lines_to_write(exercise: Exercise) -> int:
    """As many ruled lines as the solution has, and half as many again; six at least."""
    return min(20, max(6, round(1.5 * len(exercise.solution_code.splitlines()))))


def _parsed(source: str) -> ast.Module | None:
    """The cell's syntax tree; None for cells with magic commands."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def _only_exercise_imports(tree: ast.Module) -> bool:
    return bool(tree.body) and all(
        isinstance(each, ast.ImportFrom)
        and (each.module or "").startswith("course_lib.exercises.chapter_")
        for each in tree.body
    )


def _lone_name(tree: ast.Module) -> str:
    """``"ex2_1"`` of a cell that says only that; else an empty text."""
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        value = tree.body[0].value
        if isinstance(value, ast.Name):
            return value.id
    return ""


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield statement.value


def _answered(tree: ast.Module) -> str:
    """``"ex2_1"`` of a cell that checks it, ``"q2_1"`` of one that answers it; else nothing."""
    for call in _calls(tree):
        target = call.func
        if (
            isinstance(target, ast.Attribute)
            and target.attr in ("check", "answer")
            and isinstance(target.value, ast.Name)
        ):
            return target.value.id
    return ""


def _guesses(tree: ast.Module) -> list[str]:
    """The names in a cell that only asks for predictions."""
    calls = list(_calls(tree))
    found = [
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == "predict"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]
    return [str(each) for each in found] if len(found) == len(tree.body) else []


def _with_room_to_predict(blocks: Sequence[Block]) -> list[Block]:
    """Two lines to write on after each request to predict that has no blanks of its own."""
    found: list[Block] = []
    for place, block in enumerate(blocks):
        found.append(block)
        following = blocks[place + 1] if place + 1 < len(blocks) else None
        asked = isinstance(block, Paragraph) and words(block).startswith("Predict.")
        if asked and not isinstance(following, Box):
            found.append(Box("prediction", "Your prediction", (Room(2),)))
    return found
