"""A look at every number of a file, taken by two threads while the load is still being planned."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from types import TracebackType

import numpy as np
import torch

_LARGE = 1 << 20  # bytes; less is looked at sooner than a thread begins


class Look:
    """Whether tensors hold finite numbers and nothing else; to be used in a ``with`` block.

    NumPy lets go of Python's lock while it sums, and neighbours in memory are summed as one: all
    numbers of a safetensors file in two calls, a thread each.

    Args:
        tensors: of any kind and shape; plain ones of 32 and 64 bits are looked at.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._seen = {id(each): each for each in tensors if _simple(each)}
        rows = list(_rows(self._seen.values()))
        large = sum(each.nbytes for each in rows) >= _LARGE
        self._pool = ThreadPoolExecutor(2)
        self._halves = [self._pool.submit(_finite, half) for half in _halves(rows)] if large else []

    def __enter__(self) -> "Look":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def clears(self, tensor: torch.Tensor) -> bool:
        """Whether it is one of those looked at, and all of them are finite; waits for the look."""
        found = bool(self._halves) and all(each.result() for each in self._halves)
        return found and self._seen.get(id(tensor)) is tensor


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
    begin, row = 0, np.empty(0, np.float32)
    for tensor in sorted(tensors, key=lambda each: each.data_ptr()):
        start, own = tensor.data_ptr(), tensor.detach().reshape(-1).numpy()
        if start + own.nbytes <= begin + row.nbytes:
            continue
        if start == begin + row.nbytes and own.dtype == row.dtype:
            length = len(row) + len(own)
            row = np.lib.stride_tricks.as_strided(row, (length,), writeable=False)
            continue
        yield row
        begin, row = start, own
    yield row


def _halves(rows: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The rows cut in two where half of their memory lies on either side."""
    room = sum(each.nbytes for each in rows) // 2
    first, second = [], []
    for row in rows:
        cut = max(0, min(len(row), room // row.itemsize))
        first.append(row[:cut])
        second.append(row[cut:])
        room -= row.nbytes
    return first, second


def _finite(rows: Iterable[np.ndarray]) -> bool:
    """One NaN or infinite number makes a sum so; so may large ones, which are looked at again."""
    with np.errstate(all="ignore"):
        return all(isfinite(row.sum()) for row in rows)
