"""The course's errors and warnings: what was wrong, what was expected, the next step."""

import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def interrupts_delayed() -> Iterator[list[Any]]:
    """Keep Ctrl-C until the block is through (in the main thread; others never get it).

    Yields:
        A list in which it is kept: long work may look there and end early.
    """
    caught: list[Any] = []
    if (before := _on_interrupt()) is None:
        yield caught
        return
    try:
        signal.signal(signal.SIGINT, lambda *told: caught.append(told))
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[0])


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let Ctrl-C end the block as what it is; some libraries make an error of their own of it."""
    raised: list[bool] = []
    if (before := _on_interrupt()) is None:
        yield
        return

    def noted(*told: Any) -> None:
        try:
            before(*told)
        except BaseException:
            raised.append(True)
            raise

    try:
        signal.signal(signal.SIGINT, noted)
        yield
    except Exception:
        if not raised:
            raise
    finally:
        try:
            signal.signal(signal.SIGINT, before)
        finally:  # Ctrl-C may have come during the first one
            signal.signal(signal.SIGINT, before)
    if raised:
        raise KeyboardInterrupt


def _on_interrupt() -> Callable[..., Any] | None:
    """What answers Ctrl-C: here, if anything does."""
    answer = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread()
    return answer if here and callable(answer) else None
