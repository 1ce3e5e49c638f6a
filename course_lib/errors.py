"""The course's own errors: each message says what was wrong, what was expected, the next step."""

from collections.abc import Iterable
from difflib import get_close_matches

from course_lib.text import printable


class CourseError(Exception):
    """Base of every error that the course raises on purpose."""

    def __str__(self) -> str:  # LookupError and OSError would print theirs in other ways
        text = str(self.args[0]) if self.args else ""
        if text.isprintable():
            return text
        return "\n".join(map(printable, text.split("\n")))  # a file's name may hold anything


class UnknownNameError(CourseError, LookupError):
    """A name that doesn't exist; the message offers the nearest ones."""


class DataError(CourseError, ValueError):
    """Pictures or folders that can't be used as they are."""


class OfflineError(CourseError, OSError):
    """Something has to be downloaded and can't be reached."""


def suggest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A sentence with the known names nearest to ``name``, or an empty string.

    The sentence starts with a space, so that it can follow another one:

    >>> suggest("layer5", ["conv1", "layer3", "layer4"], limit=2)
    " Did you mean 'layer4' or 'layer3'?"
    """
    near = get_close_matches(str(name), list(known), n=limit, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(each) for each in near) + "?"
