"""A file held open while it is read, and one kind of error for all that can be wrong with it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import psutil

from course_lib.errors import interrupts_kept
from course_lib.weights.errors import CheckpointError


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a parser raise into a :class:`CheckpointError`.

    Raises:
        CheckpointError: anything was raised in the block.
    """
    try:
        with interrupts_kept():
            yield
    except CheckpointError:
        raise
    except MemoryError:
        raise CheckpointError(f"{path} can't be read: there isn't enough memory for it.") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise CheckpointError(
            f"{path} is damaged: {what} can't be read ({reason}). Get the file again."
        ) from error


@dataclass(frozen=True)
class Held:
    """A file that stays the same one: whatever is put under its name, this is what is read.

    Attributes:
        path: what it is called.
        file: open for reading.
        before: what the system said of it when it was opened.
    """

    path: Path
    file: BufferedReader
    before: os.stat_result

    def __str__(self) -> str:
        return str(self.path)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.before.st_size

    @property
    def way(self) -> Path:
        """A path to this very file, for libraries that open it themselves."""
        by_number = Path(f"/proc/self/fd/{self.file.fileno()}")
        return by_number if by_number.exists() else self.path

    def check_unchanged(self) -> None:
        """Refuse a file that was written to, renamed or replaced since it was opened.

        Raises:
            CheckpointError: what its name leads to has another size, time or number.
        """
        try:
            same = _told(self.path.stat()) == _told(self.before)
        except OSError:
            same = False
        if not same:
            raise CheckpointError(f"{self.path} was changed while it was being read. Try again.")


def _told(status: os.stat_result) -> tuple[int, ...]:
    changed = status.st_ctime_ns if os.name != "nt" else 0  # there, when it was made
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, changed


@contextmanager
def held(path: Path) -> Iterator[Held]:
    """Open a file for reading.

    Raises:
        CheckpointError: it isn't a regular file, such as a pipe or a device, or can't be read.
    """
    try:
        # A pipe would keep an ordinary opening waiting for somebody who writes into it.
        number = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        with os.fdopen(number, "rb") as file:
            status = os.fstat(number)
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(
                    f"{path} is a pipe or a device, not a file on a disk. Copy what it gives into "
                    "a file, and read that."
                )
            yield Held(path, file, status)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}.") from error


def check_room(path: Path, needed: int) -> None:
    """Refuse to read what this machine has no memory for, before it is tried.

    Raises:
        CheckpointError: more bytes than are free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise CheckpointError(
            f"{path} needs {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free. "
            "Close other programs, or read it on a larger machine."
        )
