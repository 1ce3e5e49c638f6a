"""The pictures among a notebook's outputs, as ``plots.show`` makes them or as libraries do."""

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from bs4 import BeautifulSoup

from course_lib.display import plots

_ELEMENT = re.compile(r"\s*<img [^>]*>\s*")
_SOURCE = re.compile(r"data:image/(png|jpeg);base64,(.*)", re.S)


@dataclass(frozen=True)
class Picture:
    """A picture that a cell has shown.

    Attributes:
        data: the file's bytes.
        kind: ``"png"`` or ``"jpeg"``.
        alt: what it tells, in words; empty if nobody said.
        width: on the screen, in pixels; None if nobody said.
        element: whether it is an element of HTML, whose text alternative every front end shows.
    """

    data: bytes = field(repr=False)
    kind: str
    alt: str
    width: int | None
    element: bool

    def is_plot(self) -> bool:
        """Whether it is lines on white, of which a dark theme may turn the lightness around."""
        return plots.is_plot(self.data)


def picture_of(output: Any) -> Picture | None:
    """The picture that an output is; None if it is none."""
    data = output.get("data", {})
    if _ELEMENT.fullmatch(data.get("text/html", "")):
        tag: Any = BeautifulSoup(data["text/html"], "html.parser").img
        if found := _SOURCE.fullmatch(tag.get("src", "")):
            return _picture(found[2], found[1], tag, True)
    for kind in ("png", "jpeg"):
        if encoded := data.get(f"image/{kind}"):
            return _picture(encoded, kind, output.metadata.get(f"image/{kind}", {}), False)
    return None


def _picture(encoded: str, kind: str, about: Any, element: bool) -> Picture:
    width = about.get("width")
    return Picture(
        base64.b64decode(encoded), kind, about.get("alt", ""), width and int(width), element
    )
