"""A progress bar where somebody is watching, silence where nobody is.

A notebook that is executed to be compared with its stored outputs must print the same at every
run, and a progress bar doesn't.
"""

import os
import sys
from importlib.util import find_spec
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
    if _in_notebook():
        if find_spec("ipywidgets"):
            from tqdm.notebook import tqdm as notebook_tqdm

            return notebook_tqdm(**options)
        return tqdm(file=sys.stdout, **options)  # stderr would be printed on red
    return tqdm(**options)
