"""Threads share the reading of a file.

What takes time (reading, checksums, looking for NaN) runs outside of Python's lock, so two cores
are faster with a large file. A thread takes a few megabytes at a time, in the order of the file,
so that a disk still reads from the beginning to the end.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from course_lib.weights.reading.stored import Reader, Stamps, Stored

THREADS = min(4, os.cpu_count() or 1)
SHARE = 1 << 23  # bytes that a thread takes at a time
LARGE = 1 << 25  # bytes from which on threads save more than they cost

Item = TypeVar("Item")
Result = TypeVar("Result")
Job: TypeAlias = tuple[Stored, Item]  # what is read, and what it is read for


def read_in_threads(
    jobs: Iterable[Job[Item]], do: Callable[[Reader, Item], Result], stamps: Stamps
) -> list[Result]:
    """Do every job, in the order of the file.

    Args:
        jobs: what is read, and an item for ``do`` that it is read for.
        do: reads with the reader of its thread, and makes something of it.
        stamps: of the files.

    Returns:
        What ``do`` gave for the items, in the order of the file.

    Raises:
        Whatever ``do`` raises: of several, the error of the first in the file. What hadn't begun by
        then isn't begun.
    """
    in_order = sorted(jobs, key=lambda job: _position(job[0]))

    def work(share: Sequence[Job[Item]]) -> list[Result]:
        with Reader(stamps) as reader:
            return [do(reader, item) for _, item in share]

    if THREADS == 1 or sum(stored.nbytes for stored, _ in in_order) < LARGE:
        return work(in_order)
    shares = _shares(in_order)
    with ThreadPoolExecutor(min(THREADS, len(shares))) as pool:
        return [each for done in pool.map(work, shares) for each in done]


def _position(stored: Stored) -> tuple[str, int]:
    return (str(stored.block.path), stored.block.start) if stored.block else ("", 0)


def _shares(jobs: Sequence[Job[Item]]) -> list[list[Job[Item]]]:
    """The jobs, cut where a share is large enough and the next tensor has a storage of its own."""
    shares: list[list[Job[Item]]] = [[]]
    size, last = 0, None
    for job in jobs:
        stored, _ = job
        if size >= SHARE and stored.block != last:
            shares.append([])
            size = 0
        shares[-1].append(job)
        size += stored.nbytes
        last = stored.block
    return shares
