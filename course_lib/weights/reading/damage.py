"""What a damaged file makes a parser raise becomes one kind of error."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from course_lib.weights.errors import CheckpointError


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a parser raise into a :class:`CheckpointError`.

    Raises:
        CheckpointError: anything was raised in the block.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise CheckpointError(
            f"{path} is damaged: {what} can't be read ({reason}). Get the file again."
        ) from error


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of last change of a file: equal stamps, same content."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def check_unchanged(stamps: Mapping[Path, tuple[int, int]]) -> None:
    """Refuse files that were written to since they were opened.

    Raises:
        CheckpointError: one has another size or time of change.
    """
    for path, before in stamps.items():
        if not path.exists() or stamp(path) != before:
            raise CheckpointError(f"{path} was changed while it was being read. Try again.")
