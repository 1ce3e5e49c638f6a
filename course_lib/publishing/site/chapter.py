"""A chapter's notebook as a page to read: nothing runs, and nothing is given away.

What only a kernel could answer is made into something that answers without one: questions become
forms, predictions boxes to write in, exercises their text with hints and solution folded. Where a
result is folded in the notebook, it is on the page (see ``sphinx_parts``).
"""

import base64
import re
from collections.abc import Iterator
from html import escape
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode

from course_lib.exercises import exercises_of, predictions, prose, questions_of
from course_lib.exercises.core import Exercise
from course_lib.exercises.quiz import Question
from course_lib.exercises.registry import chapters as with_exercises
from course_lib.publishing import learner, recognise
from course_lib.publishing.pictures import picture_of

FOLDED = "hide-input"  # myst-nb's tag for code that opens when clicked
NOT_ON_A_PAGE = {"setup", "keep"}  # for Colab and Kaggle
_IN_A_NOTEBOOK = {  # what the notebooks ask for, and what to do on a page
    r"Put the letter of your answer in place of the dots\.": "Choose an answer.",
    r"Write your answer in place of the dots and run the cell\.": (
        "In the notebook you write your answer in place of the dots, and a check runs it."
    ),
    r"(?s)(\*\*Predict\b.*?)in (?:the )?place of\s+the dots": r"\1in the box",
}


def page(name: str, notebook: NotebookNode, row: str) -> NotebookNode:
    """The notebook that the site's builder sets.

    Args:
        name: the chapter, such as ``"02_hotdog"``.
        notebook: executed; it stays as it is.
        row: Markdown that stands below the title.
    """
    known = name[:2] in with_exercises()
    exercises = {each.name: each for each in exercises_of(name)} if known else {}
    questions = {each.name: each for each in questions_of(name)} if known else {}
    made = nbformat.from_dict(notebook)
    made.cells = [
        each
        for cell in notebook.cells
        if not NOT_ON_A_PAGE & set(cell.metadata.get("tags", ()))
        for each in _cells(nbformat.from_dict(cell), exercises, questions)
    ]
    title = made.cells[0]
    first, _, rest = title.source.partition("\n")
    title.source = f"{first}\n\n{row}\n{rest}"
    return made


def _cells(
    cell: NotebookNode, exercises: dict[str, Exercise], questions: dict[str, Question]
) -> Iterator[NotebookNode]:
    """What stands on the page for one cell of the notebook."""
    if cell.cell_type == "markdown":
        for asked, instead in _IN_A_NOTEBOOK.items():
            cell.source = re.sub(asked, instead, cell.source)
        yield cell
        return
    tree = recognise.parsed(cell.source)
    if tree is not None:
        name, answered = recognise.lone_name(tree), recognise.answered(tree)
        if recognise.only_exercise_imports(tree) or answered in questions:
            return
        if name in exercises:
            yield _text(_asked(exercises[name]))
            return
        if name in questions:
            yield _text(raw(quiz(questions[name])))
            return
        if answered in exercises:
            cell.outputs = []
            yield cell
            yield _text(_helped(exercises[answered]))
            return
        if names := learner.predicted(cell.source):
            yield _text(raw("".join(map(_box, names))))
            cell.source = recognise.beside_predictions(cell.source, tree)
            cell.outputs = [each for each in cell.outputs if each.output_type == "stream"]
            if not cell.source:
                return
    yield from map(_shown, _one_picture_each(cell))


def _text(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source)


def raw(html: str) -> str:
    """HTML as it is, in Markdown."""
    return f"````{{raw}} html\n{html}\n````"


def _asked(exercise: Exercise) -> str:
    return f"*{exercise.minutes} minutes.* {exercise.question}"


def _helped(exercise: Exercise) -> str:
    """Hints one by one, and the solution, each folded."""
    folds = [(f"Hint {n}", hint) for n, hint in enumerate(exercise.hints, start=1)]
    solution = f"```python\n{exercise.solution_code}\n```\n\n{exercise.why}"
    folds.append(("Solution", solution))
    return "\n\n".join(f"`````{{fold}} {title}\n{text}\n`````" for title, text in folds)


def quiz(question: Question) -> str:
    """A question as a form: ``quiz.js`` shows why the chosen option is right or wrong."""
    name, rows, reasons = question.name, "", ""
    for letter, option in question.printed.items():
        rows += (
            f'<p><label><input type="radio" name="{name}" value="{letter}" required> '
            f"{prose.inline_html(option.text)}</label></p>\n"
        )
        verdict = "Right" if option.right else "Not right"
        reasons += (
            f'<p hidden data-option="{letter}" data-right="{str(option.right).lower()}">'
            f"<strong>{verdict}.</strong> {prose.inline_html(' '.join(option.why.split()))}</p>\n"
        )
    return (
        f'<form class="quiz" id="{name}"><fieldset><legend>Question {question.number}</legend>\n'
        f"{prose.to_html(question.text)}\n{rows}"
        '<p><button type="submit">Answer</button></p></fieldset>\n'
        f'<div role="status">{reasons}</div></form>'
    )


def _box(name: str) -> str:
    return (
        f'<p class="prediction"><label>Your prediction, {escape(name)}: '
        '<input type="text" size="8" autocomplete="off"></label></p>\n'
    )


def _one_picture_each(cell: NotebookNode) -> Iterator[NotebookNode]:
    """A code cell, cut after each picture: myst-nb describes all pictures of a cell alike."""
    outputs, cell.outputs = cell.outputs, []
    for output in outputs:
        if picture_of(output) and any(map(picture_of, cell.outputs)):
            yield cell
            cell = nbformat.v4.new_code_cell("...", metadata={"tags": ["remove-input"]})
        cell.outputs.append(output)
    yield cell


def _shown(cell: NotebookNode) -> NotebookNode:
    """A code cell with its outputs; code that a learner doesn't see at first is folded."""
    if cell.metadata.get("jupyter", {}).get("source_hidden"):
        cell.metadata.setdefault("tags", []).append(FOLDED)
    for output in cell.outputs:
        data = output.get("data", {})
        about: Any = output.get("metadata", {})
        if about.get(predictions.NO_GUESS) and "text/html" in data:
            soup = BeautifulSoup(data["text/html"], "html.parser")
            for paragraph in soup.find_all("p")[1:]:  # that nothing was predicted
                paragraph.decompose()
            data["text/html"] = str(soup)
        if picture := picture_of(output):  # as myst-nb takes it, which stores it as a file
            image = {"alt": picture.alt, "width": f"{picture.width}px"}
            if picture.is_plot():
                image["classes"] = "plot"
            output.data = {f"image/{picture.kind}": base64.b64encode(picture.data).decode()}
            cell.metadata["mystnb"] = {"image": image}
    return cell
