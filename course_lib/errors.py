"""The course's errors and warnings: what was wrong, what was expected, the next step."""

import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from course_lib.text import printable_lines


class CourseError(Exception):
    """Base of every error that the course raises on purpose."""

    def __str__(self) -> str:  # LookupError and OSError would print theirs in other ways
        return printable_lines(str(self.args[0]) if self.args else "")  # a name may hold anything


class UnknownNameError(CourseError, LookupError):
    """A name that doesn't exist; the message offers the nearest ones."""


class DataError(CourseError, ValueError):
    """Pictures or folders that can't be used as they are."""


class OfflineError(CourseError, OSError):
    """Something has to be downloaded and can't be reached."""


class CourseWarning(UserWarning):
    """Base of the course's warnings. It is printed as a sentence, without a line of source code.

    The line that Python prints by default is the course's, or the one that called it: neither says
    more than the sentence.
    """


def _formatted(message: Any, category: Any, *place: Any, **line: Any) -> str:
    if issubclass(category, CourseWarning):
        return f"{category.__name__}: {printable_lines(str(message))}\n"
    return _others(message, category, *place, **line)


_others = warnings.formatwarning
warnings.formatwarning = _formatted


_COMPARED = 200  # characters: longer names would take longer than they are worth


def suggest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A sentence with the known names nearest to ``name``, or an empty string.

    The sentence starts with a space, so that it can follow another one:

    >>> suggest("layer5", ["conv1", "layer3", "layer4"], limit=2)
    " Did you mean 'layer4' or 'layer3'?"
    """
    near = get_close_matches(
        str(name)[:_COMPARED], [each for each in known if len(each) <= _COMPARED], limit, 0.6
    )
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(each) for each in near) + "?"
