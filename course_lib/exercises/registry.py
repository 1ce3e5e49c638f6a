"""Which chapters have exercises and questions: the modules ``chapter_00``, ``chapter_02``, ..."""

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

from course_lib.errors import UnknownNameError, suggest
from course_lib.exercises.core import Exercise
from course_lib.exercises.quiz import Question


def chapters() -> tuple[str, ...]:
    """The numbers of the chapters that have exercises, in order: ``("00", "02", ...)``."""
    here = Path(__file__).parent
    found = (re.fullmatch(r"chapter_(\d\d)", path.stem) for path in here.glob("chapter_*.py"))
    return tuple(sorted(match[1] for match in found if match))


def _module(chapter: str) -> ModuleType:
    number = str(chapter)[:2]
    if number not in chapters():
        raise UnknownNameError(
            f"There are no exercises for chapter {chapter!r}; there are some for "
            f"{', '.join(chapters())}.{suggest(number, chapters())}"
        )
    return import_module(f"course_lib.exercises.chapter_{number}")


def exercises_of(chapter: str) -> tuple[Exercise, ...]:
    """A chapter's exercises in order.

    Args:
        chapter: its number or name, such as ``"02"`` or ``"02_hotdog"``.

    Raises:
        UnknownNameError: there are none for it.
    """
    return tuple(_module(chapter).EXERCISES)


def questions_of(chapter: str) -> tuple[Question, ...]:
    """A chapter's questions in order; arguments and errors as in :func:`exercises_of`."""
    return tuple(_module(chapter).QUESTIONS)
