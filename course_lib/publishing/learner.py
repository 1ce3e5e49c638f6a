"""What a learner sees of a source: no checks in the way, no result in sight, code that teaches.

* A top-level ``assert`` is for the tests. :func:`prepared` takes it out of the cell and keeps it
  beside; it runs after the cell when a notebook is built, and isn't stored. So a learner may change
  any number.
* Behind the cell that notes a prediction stands a heading, collapsed in JupyterLab and in Colab,
  with the result below it. Where neither does it, the page still reads.
* Code that draws a figure and tells its text alternative, or sets a result beside a prediction, is
  folded away; the text alternative is in the output, where a screen reader finds it.
"""

import ast
import hashlib
import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

CHECK = "check"  # in a cell's metadata until it is stored: what to assert after it
COLLAPSED = "jp-MarkdownHeadingCollapsed"  # JupyterLab's name for it
UNTOUCHED = {"setup", "exercise", "keep"}  # tags of cells that stay as they are written
WORTH_SEEING = 4  # lines of code before a figure that get a cell of their own
_PARAGRAPH = re.compile(r"^\*\*Predict", re.M)


def prepared(cells: list[NotebookNode]) -> list[NotebookNode]:
    """A source's cells as a learner gets them; their checks wait under :data:`CHECK`."""
    made: list[NotebookNode] = []
    for cell in cells:
        if cell.cell_type != "code" or UNTOUCHED & set(cell.metadata.get("tags", ())):
            made.append(cell)
            continue
        text, check = without_checks(cell.source)
        if text:
            cell.source = text
            made += _split_before_figure(cell)
        if check:
            last = next(each for each in reversed(made) if each.cell_type == "code")
            last.metadata[CHECK] = f"{last.metadata.get(CHECK, '')}\n{check}".strip()
    return _with_results_folded(made)


def checks(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """Every cell after which something is asserted, and what."""
    return ((cell, cell.metadata[CHECK]) for cell in notebook.cells if CHECK in cell.metadata)


def finished(notebook: NotebookNode) -> None:
    """Take the checks out, give each cell its id; the same cells get the same ids."""
    folded = []
    for position, cell in enumerate(notebook.cells):
        cell.metadata.pop(CHECK, None)
        cell.id = hashlib.sha256(f"{position}\0{cell.source}".encode()).hexdigest()[:12]
        if cell.metadata.get(COLLAPSED):
            cell.metadata["id"] = cell.id  # Colab reads it here
            folded.append(cell.id)
    if folded:
        notebook.metadata["colab"] = NotebookNode(collapsed_sections=folded)


def without_checks(source: str) -> tuple[str, str]:
    """A cell's code without its top-level assertions, and these."""
    lines, kept = source.splitlines(), []
    body = _parsed(source)
    held = [node for node in body if isinstance(node, ast.Assert)]
    taken = {line for node in held for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    kept = [line for number, line in enumerate(lines, start=1) if number not in taken]
    asserted = [line for number, line in enumerate(lines, start=1) if number in taken]
    text = re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept)).strip("\n")
    return text, "\n".join(asserted)


def _parsed(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a line of IPython's own, such as %env
        return []


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    return (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def _describes(node: ast.AST) -> bool:
    """Whether a statement shows a figure with a text alternative."""
    return any(each.arg == "alt" for call in _calls(node) for each in call.keywords)


def _draws(node: ast.stmt) -> bool:
    """Whether a statement only draws on a figure that the cell shows later."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(names & {"figure", "axes", "axis"})


def _only_compares(body: list[ast.stmt]) -> bool:
    """Whether code does nothing but print results and set them beside predictions."""
    names = [
        _called(each.value)
        for each in body
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Call)
    ]
    return len(names) == len(body) and "compare" in names and {*names} <= {"compare", "print"}


def _fold(cell: NotebookNode) -> None:
    cell.metadata["jupyter"] = {**cell.metadata.get("jupyter", {}), "source_hidden": True}
    cell.metadata["cellView"] = "form"  # Colab's way


def _split_before_figure(cell: NotebookNode) -> list[NotebookNode]:
    """The cell with its figure's code folded away, behind one of what comes before it."""
    body = _parsed(cell.source)
    shown = next((place for place, node in enumerate(body) if _describes(node)), None)
    if shown is None:
        if _only_compares(body):
            _fold(cell)
        return [cell]
    start = shown
    while start and _draws(body[start - 1]):
        start -= 1
    before = body[:start]
    prints = any(_called(call) in ("print", "compare") for node in before for call in _calls(node))
    line = body[start].lineno - 1
    lines = cell.source.splitlines()
    while line and lines[line - 1].startswith("#"):  # what is said about it
        line -= 1
    if len(before) and line >= WORTH_SEEING and not prints:
        first = nbformat.v4.new_code_cell("\n".join(lines[:line]).strip("\n"))
        cell.source = "\n".join(lines[line:])
        _fold(cell)
        return [first, cell]
    _fold(cell)
    return [cell]


def predicted(source: str) -> list[str]:
    """The names of the quantities that a cell notes predictions of."""
    return [
        str(node.value.args[0].value)
        for node in _parsed(source)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and _called(node.value) == "predict"
        and isinstance(node.value.args[0], ast.Constant)
    ]


def _headings(text: str) -> list[re.Match[str]]:
    """The headings of a Markdown text; a comment in a piece of code is none."""
    prose = re.sub(r"```.*?```", lambda code: " " * len(code[0]), text, flags=re.S)
    return list(re.finditer(r"^(#+) ", prose, re.M))


def _with_results_folded(cells: list[NotebookNode]) -> list[NotebookNode]:
    made: list[NotebookNode] = []
    level, within = 1, False  # of the last heading of the author's; whether a fold is open

    def cut(cell: NotebookNode, place: int) -> None:
        """What stands before that place goes into a cell of its own, and stays in the fold."""
        if before := cell.source[:place].rstrip():
            made.append(nbformat.v4.new_markdown_cell(before))
        cell.source = cell.source[place:]

    for place, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            if headings := _headings(cell.source):
                if within:
                    cut(cell, headings[0].start())
                level, within = len(headings[-1][1]), False
            elif within and (found := _PARAGRAPH.search(cell.source)):
                names = predicted(cells[place + 1].source) if place + 1 < len(cells) else []
                cut(cell, found.start())
                heading = f"{'#' * (level + 1)} Predict: {'; '.join(names)}"
                cell.source = f"{heading}\n\n{cell.source}"
        made.append(cell)
        tags = UNTOUCHED & set(cell.metadata.get("tags", ()))
        names = predicted(cell.source) if cell.cell_type == "code" and not tags else []
        if names:
            heading = f"{'#' * (level + 1)} What happened: {'; '.join(names)}"
            made.append(nbformat.v4.new_markdown_cell(heading, metadata={COLLAPSED: True}))
            within = True
    return made
