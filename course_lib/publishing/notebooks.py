"""Notebooks from their sources: build and execute them, and tell when the two are out of step.

Authors edit ``notebooks/source/NN_name.py`` (jupytext's percent format); learners open
``notebooks/NN_name.ipynb``, which is stored executed. ``make notebooks`` rebuilds what changed.
"""

import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from course_lib.errors import CourseError, UnknownNameError, suggest
from course_lib.paths import repo_root, write_file
from course_lib.publishing import learner

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LEFT_OUT = {  # a notebook's own shell has the first, hosts the next two, people the others
    "JPY_SESSION_NAME", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "COURSE_DATA",
    "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONOPTIMIZE", "COLUMNS", "FORCE_COLOR",
    "MPLBACKEND", "MKL_NUM_THREADS",
    "MATPLOTLIBRC", "TORCH_LOGS", "TQDM_DISABLE", "IPYTHONDIR", "PYTHONPROFILEIMPORTTIME",
    "PYTHONVERBOSE", "PYTHONIOENCODING",
}  # fmt: skip
SETTLED = {"COURSE_PROFILE": "tiny", "COURSE_PROGRESS_BAR": "0", "COURSE_PANELS": "static"}
CELL_TIMEOUT = 600  # seconds; a cell of the full profile never runs here


def notebooks_dir() -> Path:
    """The folder that learners open."""
    return repo_root() / "notebooks"


def sources() -> dict[str, Path]:
    """Chapter name, such as ``"02_hotdog"``, to its percent script; in order."""
    folder = notebooks_dir() / "source"
    return {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.py"))}


def notebook_path(name: str) -> Path:
    """The executed notebook that belongs to a source."""
    return notebooks_dir() / f"{name}.ipynb"


def from_source(path: Path, checked: bool = False) -> NotebookNode:
    """The notebook that a percent script describes, not yet executed.

    The same script always gives the same notebook: cell ids come from position and text.

    Args:
        path: the script.
        checked: leave what a cell's assertions were in its metadata, for :func:`execute`.
    """
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.cells = learner.prepared(notebook.cells)
    notebook.metadata = NotebookNode(
        kernelspec=NotebookNode(KERNEL),
        language_info=NotebookNode(name="python"),
        course=NotebookNode(source_sha256=hashlib.sha256(text.encode()).hexdigest()),
    )
    if not checked:
        learner.finished(notebook)
    return notebook


def read(name: str) -> NotebookNode | None:
    """The stored notebook, or None when there is none yet."""
    return _read(notebook_path(name))


def _read(path: Path) -> NotebookNode | None:
    return nbformat.read(path, as_version=4) if path.exists() else None


def _shape(notebook: NotebookNode) -> list[tuple[str, str, tuple[str, ...]]]:
    """What a source decides about a notebook: kind, text and tags of each cell."""
    return [
        (cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())))
        for cell in notebook.cells
    ]


def in_step(name: str, path: Path | None = None) -> bool:
    """Whether the stored notebook, or another file, was built from the source as it is now."""
    stored, fresh = _read(path or notebook_path(name)), from_source(sources()[name])
    if stored is None or _shape(stored) != _shape(fresh):
        return False
    return stored.metadata.get("course") == fresh.metadata.course


def closed_environment() -> dict[str, str]:
    """This process's environment, but for what would change what a notebook prints.

    The Makefile has the same for ``make check-notebooks``.
    """
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return kept | SETTLED


class _Client(NotebookClient):
    """Runs a cell, and then what is asserted about it: uncounted, and its output isn't kept."""

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, *args: Any, **settings: Any
    ) -> NotebookNode:
        ran = await super().async_execute_cell(cell, cell_index, *args, **settings)
        if check := cell.metadata.get(learner.CHECK):
            counted = self.code_cells_executed
            await super().async_execute_cell(
                nbformat.v4.new_code_cell(check), cell_index, store_history=False
            )
            self.code_cells_executed = counted
            self.nb.cells[cell_index] = ran  # where nbclient puts what it ran last
        return ran


def execute(notebook: NotebookNode) -> NotebookNode:
    """Run all cells in ``notebooks/`` as a new learner would; change the notebook in place.

    In the tiny profile, at one thread, with no exercise solved. What a source asserts is asserted.
    """
    client = _Client(
        notebook, timeout=CELL_TIMEOUT, kernel_name=KERNEL["name"], record_timing=False,
        coalesce_streams=True, resources={"metadata": {"path": str(notebooks_dir())}},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as empty:
        client.execute(env=closed_environment() | {
            "COURSE_PROGRESS": str(Path(empty) / "progress.json"), "OMP_NUM_THREADS": "1",
        })  # fmt: skip
    notebook.metadata.kernelspec = NotebookNode(KERNEL)
    notebook.metadata.language_info = NotebookNode(name="python")
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Store a notebook whole or not at all."""
    nbformat.validate(notebook)
    write_file(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def build(names: Iterable[str] = (), everything: bool = False) -> Iterator[tuple[str, bool]]:
    """Rebuild and execute the notebooks that are out of step, or those named.

    Args:
        names: chapters such as ``"02_hotdog"``; these are rebuilt even when in step.
        everything: rebuild all.

    Yields:
        Each chapter with True when it was rebuilt, False when it was in step already.

    Raises:
        UnknownNameError: a chapter that has no source.
        CourseError: a cell failed; the stored notebook is as it was.
    """
    known = sources()
    wanted = checked(names, known)
    for name in wanted or known:
        if not wanted and not everything and in_step(name):
            yield name, False
            continue
        notebook = from_source(known[name], checked=True)
        try:
            execute(notebook)
        except Exception as error:
            raise CourseError(f"{name} was not stored, since it failed: {error}") from error
        learner.finished(notebook)
        write(notebook, notebook_path(name))
        yield name, True


def checked(names: Iterable[str], known: Collection[str]) -> list[str]:
    """The names of chapters, as a list.

    Raises:
        UnknownNameError: one of them isn't known.
    """
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise UnknownNameError(
                f"There is no chapter {name!r}; there are {', '.join(known)}.{suggest(name, known)}"
            )
    return wanted


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, Any]]:
    """Every output of a notebook, with the index of its cell."""
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            yield index, output
