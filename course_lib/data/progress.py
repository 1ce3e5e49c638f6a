"""A progress bar where somebody is watching, silence where nobody is.

A notebook that is executed to be compared with its stored outputs must print the same at every
run, and a progress bar doesn't.
"""

import io
import os
import sys
from typing import Any

from tqdm import tqdm

from course_lib.paths import host

ENVIRONMENT_VARIABLE = "COURSE_PROGRESS_BAR"


def is_watched() -> bool:
    """Whether to show a bar: ``COURSE_PROGRESS_BAR`` (1 or 0) decides; else whether one is seen.

    That is so at a terminal, and in a notebook that JupyterLab or Colab opened: both say so in
    the kernel's environment, which tools that execute notebooks don't.
    """
    wish = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if wish:
        return wish != "0"
    opened = "JPY_SESSION_NAME" in os.environ or host() == "colab"
    return sys.stderr.isatty() or (opened and _in_notebook())


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # whoever hasn't imported it isn't in a notebook
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def bar(
    total: int | None, text: str, show: bool | None = None, unit: str = "batch", **settings: Any
) -> Any:
    """A tqdm bar that counts something and vanishes when it is done.

    Args:
        total: how many; None if unknown.
        text: what stands before the bar.
        show: True or False decides; None lets :func:`is_watched` decide.
        unit: what is counted; ``"B"`` for bytes.
        settings: others of tqdm's, such as ``iterable``, or ``delay`` in seconds.
    """
    options = {"total": total, "desc": text, "unit": unit, "leave": False} | settings
    options["unit_scale"] = unit == "B"
    if not (is_watched() if show is None else show):
        return tqdm(disable=True, **options)
    return _InNotebook(**options) if _in_notebook() else tqdm(**options)


class _InNotebook(tqdm):
    """A bar in one output of its cell, as text, which is empty in the end.

    tqdm's own for notebooks is a widget: of it, a saved file keeps only a reference, and a page
    opened again says "Error displaying widget: model not found".
    """

    _last: tuple[int, Any] | None = None  # the cell's execution count, and its output

    def __init__(self, **options: Any) -> None:
        super().__init__(file=io.StringIO(), ncols=80, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the bar, or a message in its place; tqdm calls it."""
        from IPython.display import display

        shell: Any = sys.modules["IPython"].get_ipython()
        data = {"text/plain": str(self) if msg is None else msg}
        cell = shell.execution_count
        if _InNotebook._last and _InNotebook._last[0] == cell:
            _InNotebook._last[1].update(data, raw=True)
        elif data["text/plain"]:
            _InNotebook._last = cell, display(data, raw=True, display_id=True)
