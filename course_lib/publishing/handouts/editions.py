"""A chapter's notebook as a handout: one edition for those who learn, one for those who teach."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.chapters import CHAPTERS
from course_lib.exercises import exercises_of, questions_of
from course_lib.exercises.core import Exercise
from course_lib.exercises.quiz import Question
from course_lib.exercises.registry import chapters as with_exercises
from course_lib.publishing import learner, recognise
from course_lib.publishing.handouts import document as doc
from course_lib.publishing.handouts import markdown, outputs, talking, timing
from course_lib.publishing.handouts.document import (
    Block,
    HandoutError,
    Paragraph,
    bold,
    line,
    words,
)

STUDENT, TEACHER = "student edition", "teacher edition"


@dataclass
class Section:
    """A part of the chapter under a heading of level 2; the first one has none."""

    title: str | None
    blocks: list[Block] = field(default_factory=list)
    more_minutes: float = 0.0
    results: list[tuple[int, str, list[Block]]] = field(default_factory=list)  # place, title, what


def make(name: str, notebook: Any, edition: str, address: str | None = None) -> doc.Document:
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
    maker = maker_for(name, teacher=edition == TEACHER)
    title, sections = maker.sections(notebook)
    chapter = next((each for each in CHAPTERS if each.name == name), None)
    if edition == TEACHER:
        blocks = _for_teachers(name, sections)
    else:
        blocks = [block for section in sections for block in section.blocks]
        blocks += maker.answers()
    return doc.Document(
        f"{number}  {title}", edition, chapter.question if chapter else "", tuple(blocks), address
    )


def maker_for(name: str, teacher: bool = False) -> "Maker":
    """What makes sections of a chapter's notebook, with the chapter's exercises and questions."""
    number = name[:2]
    known = number in with_exercises()
    return Maker(
        {each.name: each for each in exercises_of(number)} if known else {},
        {each.name: each for each in questions_of(number)} if known else {},
        teacher,
    )


@dataclass
class Maker:
    """Goes through a notebook's cells and makes sections of them."""

    exercises: dict[str, Exercise]
    questions: dict[str, Question]
    teacher: bool
    asked: list[Question] = field(default_factory=list)

    def sections(self, notebook: Any) -> tuple[str, list[Section]]:
        """The title, and the sections in order.

        Raises:
            HandoutError: there is no title.
        """
        title, found = "", [Section(None)]
        into = found[-1].blocks  # or the blocks of a result, which are behind what was predicted
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                folded = cell.metadata.get(learner.COLLAPSED) and not self.teacher
                for block in markdown.read(on_paper(cell.source)):
                    if not isinstance(block, doc.Heading):
                        into.append(block)
                    elif block.level == 1:
                        title = words(block.inside)
                    elif folded:
                        into = []
                        found[-1].results.append((len(found[-1].blocks), words(block), into))
                    else:
                        if block.level == 2:
                            found.append(Section(words(block.inside)))
                        into = found[-1].blocks
                        into.append(block)
            elif cell.cell_type == "code":
                blocks, minutes = self.cell(cell)
                into += blocks
                found[-1].more_minutes += minutes
        for section in found:
            for place, said, inside in reversed(section.results):
                section.blocks.insert(place, doc.Box("result", said, tuple(inside)))
            section.blocks = _with_room_to_predict(section.blocks)
        if not title:
            raise HandoutError("A notebook has no title: a heading of level 1.")
        return title, found

    def cell(self, cell: Any) -> tuple[list[Block], float]:
        """The blocks of a code cell, and the minutes that an exercise takes beside reading."""
        tree = recognise.parsed(cell.source)
        for_hosts = {"setup", "keep"} & set(cell.metadata.get("tags", ()))
        if for_hosts or (tree and recognise.only_exercise_imports(tree)):
            return [], 0.0
        if tree is not None:
            name = recognise.lone_name(tree)
            if name in self.exercises:
                exercise = self.exercises[name]
                return self.exercise(exercise), exercise.minutes
            if name in self.questions:
                return self.question(self.questions[name]), timing.QUESTION
            answered = recognise.answered(tree)
            if answered in self.exercises or answered in self.questions:
                return [], 0.0
            if guesses := learner.predicted(cell.source):
                rest = without_scaffolding(recognise.beside_predictions(cell.source, tree))
                before: list[Block] = [doc.Program(rest)] if rest else []
                blanks = tuple(map(doc.Blank, guesses))
                return [*before, doc.Box("prediction", "Your prediction", blanks)], 0.0
        folded = cell.metadata.get("jupyter", {}).get("source_hidden")  # as in the notebook
        code = "" if folded else without_scaffolding(cell.source)
        shown: list[Block] = [doc.Program(code)] if code.strip() else []
        shown += outputs.blocks_of(cell.get("outputs", ()))
        return [block for block in shown if words(block).strip()], 0.0

    def exercise(self, exercise: Exercise) -> list[Block]:
        """Question and stub; then room to write, or for teachers all that there is to know."""
        inside: list[Block] = [*markdown.read_little(exercise.question), doc.Program(exercise.stub)]
        title = f"Exercise {exercise.number} ({exercise.minutes} minutes)"
        if not self.teacher:
            check = f"{exercise.name}.check({exercise.answer})"
            note = markdown.little_line(f"Your answer. In the notebook, `{check}` looks at it.")
            inside += [Paragraph(note), doc.Room(_lines_to_write(exercise))]
            return [doc.Box("exercise", title, tuple(inside))]
        return [doc.Box("exercise", title, tuple(inside)), _solution(exercise)]

    def question(self, question: Question) -> list[Block]:
        """The question with squares to tick; for teachers ticked, and explained."""
        self.asked.append(question)
        options = tuple(
            (letter, markdown.little_line(option.text))
            for letter, option in question.printed.items()
        )
        right = _right(question) if self.teacher else None
        title = f"Question {question.number}"
        inside = (*markdown.read_little(question.text), doc.Choices(options, right))
        found: list[Block] = [doc.Box("question", title, inside)]
        if self.teacher:
            title = f"Answer to question {question.number}"
            found.append(doc.Box("teacher", title, _explained(question)))
        return found

    def answers(self) -> list[Block]:
        """The page at the end of the student edition; nothing when no question was asked."""
        if not self.asked:
            return []
        found: list[Block] = [
            doc.NewPage(),
            doc.Heading(2, line("Answers to the questions")),
            Paragraph(line("Tick your answers first; then read why, also of those you didn't.")),
        ]
        for question in self.asked:
            title = f"Question {question.number}"
            found.append(doc.Box("question", title, _explained(question)))
        return found


def _for_teachers(name: str, sections: Sequence[Section]) -> list[Block]:
    """The timings first; then the sections, each with what to say."""
    points = talking.points(name)
    minutes = [_minutes(section) for section in sections]
    rows = [
        (line(s.title or "Opening"), line(str(n)), ())
        for s, n in zip(sections, minutes, strict=True)
    ]
    rows.append((bold("all of it"), bold(str(sum(minutes))), ()))
    found: list[Block] = [
        doc.Heading(2, line("For the teacher")),
        *points.opening,
        doc.Heading(3, line("Expected timings")),
        Paragraph(line(timing.RULE)),
        doc.Table(
            tuple(map(line, ("section", "minutes", "yours"))), tuple(rows), (False, True, False)
        ),
    ]
    unplaced = points.missing({section.title for section in sections})
    if unplaced:
        found.append(doc.Box("teacher", "More to talk about", tuple(unplaced)))
    found.append(doc.NewPage())
    for section in sections:
        blocks = list(section.blocks)
        said = points.for_section(section.title)
        if said:
            place = 1 if section.title else 0
            blocks.insert(place, doc.Box("teacher", "Talking points", said))
        found += blocks
    return found


def _minutes(section: Section) -> int:
    """Minutes for a section; the text around exercises is no extra."""
    if section.more_minutes:
        return timing.rounded(section.more_minutes)
    read = [b for b in section.blocks if not isinstance(b, doc.Box) or b.kind == "prediction"]
    return timing.rounded(timing.minutes(read))


def _solution(exercise: Exercise) -> doc.Box:
    """What a teacher wants to know of an exercise: solution, why, hints, likely wrong answers."""
    hints = tuple((Paragraph(markdown.little_line(hint)),) for hint in exercise.hints)
    inside: list[Block] = [
        doc.Program(exercise.solution_code),
        *markdown.read_little(exercise.why),
        Paragraph(bold("Hints, in this order:")),
        doc.Bullets(hints, numbered=True),
        Paragraph(bold("Likely wrong answers, and what the check says:")),
    ]
    for wrong in exercise.wrongs.values():
        inside += [doc.Program(wrong.code), *markdown.read_little(wrong.message)]
    return doc.Box("teacher", f"Solution of exercise {exercise.number}", tuple(inside))


def _right(question: Question) -> str:
    """The letter of the right option on paper."""
    return next(letter for letter, option in question.printed.items() if option.right)


def _explained(question: Question) -> tuple[Block, ...]:
    items = []
    for letter, option in question.printed.items():
        verdict = bold(f"{letter}) {'right' if option.right else 'wrong'}: ")
        why = markdown.little_line(f"{option.text} ({option.why.strip()})")
        items.append((Paragraph((*verdict, *why)),))
    return (Paragraph((*line("Right: "), *bold(_right(question)))), doc.Bullets(tuple(items)))


def on_paper(text: str) -> str:
    """Prose that speaks of a notebook's dots, said of what is on paper."""
    text = re.sub(r"Put the letter of your answer in place of the dots", "Tick your answer", text)
    after = r"(,? (or on paper|and run the cell|in the second one))?"
    return re.sub(r"\bin\s+(the\s+)?place\s+of\s+the\s+dots" + after, "on the lines", text)


def without_scaffolding(source: str) -> str:
    """Code without what is there for tests and tools: assertions, and comments to the formatter."""
    tree = recognise.parsed(source)
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)] if tree else []
    taken = {n for node in checks for n in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = [line for n, line in enumerate(source.splitlines(), 1) if n not in taken]
    return re.sub(r"[ \t]*# (fmt|noqa|type):.*$", "", "\n".join(lines), flags=re.M)


def _lines_to_write(exercise: Exercise) -> int:
    """As many ruled lines as the solution has, and half as many again; six at least."""
    return min(20, max(6, round(1.5 * len(exercise.solution_code.splitlines()))))


def _with_room_to_predict(blocks: Sequence[Block]) -> list[Block]:
    """Two lines to write on after each request to predict that has no blanks of its own."""
    found: list[Block] = []
    for place, block in enumerate(blocks):
        found.append(block)
        asked = isinstance(block, Paragraph) and words(block).startswith("Predict.")
        if asked and not any(isinstance(each, doc.Box) for each in blocks[place + 1 : place + 3]):
            found.append(doc.Box("prediction", "Your prediction", (doc.Room(2),)))
    return found
