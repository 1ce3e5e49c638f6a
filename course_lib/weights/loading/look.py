"""A look at every number of a file, taken by two threads while the load is still being planned."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import isfinite
from operator import itemgetter
from threading import Thread
from types import TracebackType

import numpy as np
import torch

_LARGE = 1 << 20  # bytes; less is looked at sooner than a thread begins
_PIECE = 1 << 24  # bytes that a thread looks at in one go


class Look:
    """Whether tensors hold finite numbers and nothing else; to be used in a ``with`` block.

    A thread begins at once, and whoever asks helps it. NumPy lets go of Python's lock while it
    sums, and neighbours in memory are summed as one: the numbers of a safetensors file in a few
    calls.

    Args:
        tensors: of any kind and shape; plain ones of 32 and 64 bits are looked at.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._seen = {id(each): each for each in tensors if _simple(each)}
        rows = list(_rows(self._seen.values()))
        self._finite = self._begun = sum(row.nbytes for row in rows) >= _LARGE
        self._pieces = deque(_pieces(rows))
        self._helper = Thread(target=self._work)
        if self._begun:
            self._helper.start()

    def __enter__(self) -> "Look":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._pieces.clear()
        self._finish()

    def clears(self, tensor: torch.Tensor) -> bool:
        """Whether it is one of those looked at, and all of them are finite; waits for the look."""
        self._finish()
        return self._finite and self._seen.get(id(tensor)) is tensor

    def _finish(self) -> None:
        if self._begun:
            self._work()
            self._helper.join()
            self._begun = False

    def _work(self) -> None:
        """Sum what nobody has taken. One NaN or infinite number makes a sum so; so may large ones,
        which are looked at again."""
        with np.errstate(all="ignore"), suppress(IndexError):  # when nothing is left
            while piece := self._pieces.popleft():
                fine = False
                try:
                    fine = all(isfinite(np.einsum("i->", row)) for row in piece)  # half of sum()
                finally:
                    if not fine:
                        self._finite = False


def _simple(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.dtype in (torch.float32, torch.float64)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.numel() > 0
        and tensor.is_contiguous()
        and not tensor.is_neg()
    )


def _rows(tensors: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """The memory of tensors as rows of numbers, none of it twice."""
    end, length, first = 0, 0, torch.empty(0, dtype=torch.float32)
    for start, tensor in sorted(((each.data_ptr(), each) for each in tensors), key=itemgetter(0)):
        if start + tensor.nbytes <= end:
            continue
        if start != end or tensor.dtype is not first.dtype:
            yield _row(first, length)
            length, first = 0, tensor
        length += tensor.numel()
        end = start + tensor.nbytes
    yield _row(first, length)


def _row(first: torch.Tensor, length: int) -> np.ndarray:
    """So many numbers from the first one of a tensor on."""
    numbers = first.detach().reshape(-1).numpy()
    if length == len(numbers):
        return numbers
    return np.lib.stride_tricks.as_strided(numbers, (length,), writeable=False)


def _pieces(rows: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The rows in lists, long ones cut: half of all, which takes as long as the planning; then
    16 MB each, so that nobody waits long for the other."""
    piece: list[np.ndarray] = []
    room = max(_PIECE, sum(row.nbytes for row in rows) // 2)
    for row in rows:
        while len(row):
            part = row[: max(1, room // row.itemsize)]
            piece.append(part)
            row, room = row[len(part) :], room - part.nbytes
            if room <= 0:
                yield piece
                piece, room = [], _PIECE
    if piece:
        yield piece
