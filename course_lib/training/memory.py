"""Too little memory: what torch, a GPU's driver or Python say then, in the course's words."""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from course_lib.errors import CourseError
from course_lib.training.errors import OutOfMemoryError

# Only CUDA's allocator has a class of its own; a CPU's raises a RuntimeError.
SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed",
         "can't start new thread",
         "bad_alloc", "bad allocation", "not enough memory")  # fmt: skip


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory couldn't be had."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(each in str(error).lower() for each in SIGNS)


@contextmanager
def told_when_full(where: str, then: str) -> Iterator[None]:
    """Turn a shortage of memory inside into the course's error.

    Args:
        where: what was being done, to follow "The memory was full".
        then: what is as it was, and what to do.

    Raises:
        OutOfMemoryError: there was too little memory.
    """
    try:
        yield
    except Exception as error:
        told = isinstance(error, CourseError) and not isinstance(error, MemoryError)
        if told or not is_shortage(error):
            raise
        raise shortage(error, where, then) from error


def shortage(error: BaseException, where: str, then: str) -> OutOfMemoryError:
    """The course's error for another; what the failed functions held is given back."""
    traceback.clear_frames(error.__traceback__)  # else it would be kept as long as the error is
    said = str(error).strip().splitlines()
    reason = f" ({said[0][:200]})" if said else ""
    return OutOfMemoryError(f"The memory was full {where}{reason}. {then}")
