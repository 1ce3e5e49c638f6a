"""What the panels share: controls where somebody can use them, a picture with a text elsewhere."""

import abc
import os
import sys
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.figure import Figure

from course_lib.display import plots
from course_lib.errors import CourseError
from course_lib.paths import host

ENVIRONMENT_VARIABLE = "COURSE_PANELS"  # "live" or "static": settles the matter
LIVE, KEPT = "course-panel", "course-panel-kept"  # classes: the controls, and what stays of them
WIDGET = "application/vnd.jupyter.widget-view+json"
NO_CONTROLS = "The controls are here again once you run this cell."

# In JupyterLab and Notebook 7, what stays is out of sight beside the controls; where they are gone,
# as tomorrow, the front end's message is.
_STYLE = (
    f"<style>.jp-OutputArea-child:has(.{LIVE}) + .jp-OutputArea-child:has(.{KEPT}), "
    ".jp-OutputArea-output:not([data-mime-type], :has(*)) { display: none }</style>"
)


def has_front_end() -> bool:
    """Whether somebody sits in front of this notebook and could click.

    A front end (JupyterLab, Notebook 7, VS Code) says with each request which cell it is about. A
    program that executes a notebook (nbclient, nbval) doesn't: for it no control may be made, since
    every one would leave its random number in the notebook.
    """
    choice = os.environ.get(ENVIRONMENT_VARIABLE, "").strip().lower()
    if choice in ("live", "static"):
        return choice == "live"
    kernel = _kernel()
    if kernel is None:
        return False
    if host() == "colab":
        return True
    return bool(_cell())


def _cell() -> str:
    """What a front end calls the cell that it asked to run; empty if it doesn't say."""
    request = (_kernel().get_parent() if _kernel() else None) or {}
    return str((request.get("metadata") or {}).get("cellId", ""))


def _kernel() -> Any:
    """The kernel that this runs in; None in a script or a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None)


@dataclass(frozen=True)
class View:
    """What a panel shows for one state of its controls.

    Attributes:
        text: what was found, for people who use the controls.
        figure: the same as a picture; None while there is nothing to draw.
        alt: what the picture tells, in words.
        fixed: the text for an executed notebook: nothing in it depends on the last digits.
    """

    text: str
    figure: Figure | None
    alt: str
    fixed: str


class Panel(abc.ABC):
    """Controls, and below them a text and a picture that follow.

    Display it as a cell's last line. ``panel.widget`` is the live form, made when first asked for.
    """

    photographs = False  # a picture of the world, not of lines and marks

    def __init__(self) -> None:
        self._widget: Any = None
        self._says: Any = None
        self._shows: Any = None
        self._kept: Any = None

    @abc.abstractmethod
    def view(self) -> View:
        """What is to be seen in the present state.

        Raises:
            CourseError: it can't be shown; the message says why.
        """

    @abc.abstractmethod
    def controls(self) -> list[Any]:
        """The controls, top to bottom; each calls :meth:`refresh` when used."""

    @property
    def widget(self) -> Any:
        """The panel with its controls, an ``ipywidgets.VBox``."""
        if self._widget is None:
            import ipywidgets

            self._says, self._shows = ipywidgets.HTML(), ipywidgets.HTML()
            self._widget = ipywidgets.VBox([*self.controls(), self._says, self._shows])
            self._widget.add_class(LIVE)
            self.refresh()
        return self._widget

    @property
    def text(self) -> str:
        """What the panel says now, as its reader sees it."""
        try:
            return self.view().text
        except CourseError as error:
            return str(error)

    def refresh(self, *_: object) -> None:
        """Look again, and show it. An error of ours is shown in place of the result."""
        if self._says is None:
            return
        try:
            view = self.view()
        except CourseError as error:
            self._says.value, self._shows.value = _said(f"This can't be shown. {error}"), ""
        else:
            self._says.value, self._shows.value = _said(view.text), _image(view, self.photographs)
        if self._kept is not None:
            self._kept.update(self._to_keep(), raw=True)

    def _ipython_display_(self) -> None:
        if not has_front_end():
            self._show_static(self.view())
            return
        from IPython.display import DisplayHandle, display

        if host() == "colab" or ":" in _cell():  # an address, as in VS Code: both store controls
            display(self.widget)
            return
        view = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        display({"text/plain": NO_CONTROLS, WIDGET: view}, raw=True)
        self._kept = self._kept or DisplayHandle()
        self._kept.display(self._to_keep(), raw=True)

    def _to_keep(self) -> dict[str, str]:
        """What a saved page still shows where nothing of its kernel and its controls is left."""
        inside = f"{self._says.value}<p>{NO_CONTROLS}</p>{self._shows.value}"
        return {
            "text/plain": self.text, "text/html": f'{_STYLE}<div class="{KEPT}">{inside}</div>'
        }  # fmt: skip

    def _show_static(self, view: View) -> None:
        """Text and picture; for a program that executes a page, the text without digits."""
        print(view.text if has_front_end() or not _kernel() else view.fixed)
        if view.figure is not None and _kernel():
            plots.show(view.figure, view.alt, photographs=self.photographs)

    def __repr__(self) -> str:
        return self.text


def _said(text: str) -> str:
    """Text as HTML, line by line; a screen reader is told when it changes."""
    lines = "<br>".join(escape(line) for line in text.splitlines())
    return f'<div role="status" aria-live="polite" style="line-height:1.5">{lines}</div>'


def _image(view: View, photograph: bool) -> str:
    if view.figure is None:
        return ""
    return plots.encode(view.figure, photograph).html(view.alt)
