"""Put badge and first cell into every notebook, source and executed notebook alike.

The first cell prints nothing on the author's machine, so the stored outputs of all other cells stay
true: they are kept, with their execution counts moved on by one where the cell is new. A chapter
whose two files were out of step before is left for ``make notebooks``.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.paths import atomic_write
from course_lib.publishing import cells, notebooks
from course_lib.publishing.addresses import Address, address

if TYPE_CHECKING:
    from nbformat import NotebookNode

CELL_LINE = re.compile(r"^# %%", re.M)
# Collapsed in JupyterLab, since nobody there needs it; Colab and Kaggle show it.
CODE_LINE = f'# %% jupyter={{"source_hidden": true}} tags=["{cells.TAG}"]'
TEXT_LINE = f'# %% [markdown] tags=["{cells.TAG}"]'


@dataclass(frozen=True)
class Stamped:
    """What became of one chapter.

    Attributes:
        name: the chapter, such as ``"02_hotdog"``.
        changed: whether its source had to be changed.
        in_step: whether its executed notebook belongs to the source now.
    """

    name: str
    changed: bool
    in_step: bool

    def __str__(self) -> str:
        what = "stamped" if self.changed else "as it should be"
        return f"{self.name}: {what}" + ("" if self.in_step else "; out of step: make notebooks")


def stamp(check: bool = False) -> list[Stamped]:
    """Bring every chapter in line with the configured address; a second time changes nothing.

    Args:
        check: change nothing, only tell.

    Raises:
        CourseError: a source that has no title cell to put the others behind.
    """
    where, sources = address(), notebooks.sources()
    before = {name: path.read_text(encoding="utf-8") for name, path in sources.items()}
    # All of them before anything is written.
    planned = {name: stamped_source(text, name, where) for name, text in before.items()}
    results = []
    for name, path in sources.items():
        changed = before[name] != planned[name]
        if changed and not check:
            _stamp_chapter(name, path, planned[name])
        results.append(Stamped(name, changed, notebooks.in_step(name)))
    return results


def next_step(where: Address | None) -> str:
    """What to do once everything is stamped."""
    if where is None:
        return (
            "No address is set, so there are no badges. When the course has one: "
            "course colab --repo OWNER/NAME --ref TAG"
        )
    return (
        f"Now commit this and publish it under the tag that the badges lead to:\n"
        f"  git commit -am 'Badges for {where.ref}' && git tag {where.ref}\n"
        f"  git push origin HEAD {where.ref}\n"
        f"Then click a badge of {where.repository} in a private window: it must open and run."
    )


def stamped_source(text: str, name: str, where: Address | None) -> str:
    """A percent script with the present badge and first cell directly behind its title.

    Raises:
        CourseError: it has no title cell.
    """
    head, *parts = _split(text)
    parts = [part for part in parts if not _is_ours(part)]
    if not parts or "[markdown]" not in parts[0].splitlines()[0]:
        raise CourseError(f"The source of {name} doesn't begin with a Markdown cell, its title.")
    ours = [f"{CODE_LINE}\n{cells.first_cell(where)}\n\n"]
    if where is not None:
        lines = cells.badge(where, name).splitlines()
        commented = "\n".join(f"# {line}".rstrip() for line in lines)
        ours.insert(0, f"{TEXT_LINE}\n{commented}\n\n")
    title, *rest = parts
    return "".join([head, title.rstrip("\n"), "\n\n", *ours, *rest]).rstrip("\n") + "\n"


def _split(text: str) -> list[str]:
    """What stands before the first cell (often nothing), then each cell with its first line."""
    starts = [match.start() for match in CELL_LINE.finditer(text)]
    edges = [0, *starts, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def _is_ours(part: str) -> bool:
    return f'"{cells.TAG}"' in part.splitlines()[0]


def _stamp_chapter(name: str, path: Path, text: str) -> None:
    """Write the source, and carry the stored outputs over into a notebook of the new source."""
    stored = notebooks.read(name) if notebooks.in_step(name) else None
    with atomic_write(path) as file:
        file.write(text.encode())
        file.flush()
        fresh = notebooks.from_source(Path(file.name))  # before the source changes: this may fail
    if stored is not None and _is_run(stored):
        _carry_over(stored, fresh)
        notebooks.write(fresh, notebooks.notebook_path(name))


def _is_run(notebook: "NotebookNode") -> bool:
    return all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def _carry_over(stored: "NotebookNode", fresh: "NotebookNode") -> None:
    """Give every cell of ``fresh`` but ours what its twin in ``stored`` has printed and shown."""
    twins = iter([cell for cell in stored.cells if cells.TAG not in cell.metadata.get("tags", ())])
    count = 0
    for cell in fresh.cells:
        ours = cells.TAG in cell.metadata.get("tags", ())
        twin = None if ours else next(twins)
        if cell.cell_type != "code":
            continue
        count += 1
        if twin is not None:
            cell.outputs = [_renumbered(each, twin.execution_count, count) for each in twin.outputs]
            cell.metadata = twin.metadata
        cell.execution_count = count
    for key in ("kernelspec", "language_info"):
        fresh.metadata[key] = stored.metadata[key]


def _renumbered(output: Any, before: int, after: int) -> Any:
    """An output under another execution count; tracebacks name it too."""
    if output.get("execution_count"):
        output.execution_count = after
    if "traceback" in output:
        name = re.compile(rf"(In\s?\[){before}(\])")
        output.traceback = [name.sub(rf"\g<1>{after}\g<2>", line) for line in output.traceback]
    return output
