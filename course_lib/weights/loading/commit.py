"""Give tensors their new values: all of them, or on any trouble none.

A tensor that is the only user of its memory gets other memory instead of being written to, and
nobody notices. A view, a state dict, a NumPy array, a graph that waits for its backward pass or
another process would notice: it would go on seeing the old values.
"""

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType

import torch

from course_lib.freezing.bits import same_bits, words

_CHUNK = 1 << 18  # bytes: old and new values of a chunk fit into the processor's cache


@dataclass
class Change:
    """One tensor and its new value.

    Attributes:
        name: for messages.
        target: the tensor in the model.
        value: CPU, contiguous, same shape. It is used up: afterwards it holds the old values.
        replace: give the target this memory (and its dtype) instead of copying into its own: where
            the type changes, or where nothing else uses the old memory.
    """

    name: str
    target: torch.Tensor
    value: torch.Tensor
    replace: bool = False


def commit(changes: Sequence[Change]) -> None:
    """Make all changes, each copy verified bit for bit; on any error undo those already made.

    Old and new values change places: a tensor gets the new memory, or their contents are exchanged
    chunk by chunk, so that no third copy is needed. What was in the model is in ``value``
    afterwards, ready to go back. Ctrl-C waits until all is done.

    Raises:
        RuntimeError: a tensor refuses its values, or doesn't hold them afterwards.
    """
    done: list[Change] = []
    spare = torch.empty(_CHUNK // 8, dtype=torch.int64)
    with interrupts_delayed(), torch.no_grad():
        try:
            for change in changes:
                _exchange(change, spare)
                done.append(change)
        except BaseException:
            for change in reversed(done):
                _undo(change)
            raise


def _exchange(change: Change, spare: torch.Tensor) -> None:
    target = change.target.detach()
    if change.replace:
        # As after a copy: a backward pass that still needs the old values must not take these.
        torch.autograd.graph.increment_version(change.target)
        change.target.data = change.value.to(target.device)
        change.value = target
    elif target.is_contiguous() and target.device.type == "cpu":
        old, new = words(target), words(change.value)
        if old.dtype != new.dtype:  # one begins at an odd place in its memory
            old, new = old.view(torch.uint8), new.view(torch.uint8)
        spare = spare.view(old.dtype)
        for start in range(0, len(new), len(spare)):
            stop = min(start + len(spare), len(new))
            try:
                _swap(old[start:stop], new[start:stop], spare[: stop - start])
            except BaseException:
                old[:start].copy_(new[:start])
                raise
    else:
        _swap(target, change.value, torch.empty_like(change.value))


def _swap(target: torch.Tensor, value: torch.Tensor, spare: torch.Tensor) -> None:
    """Exchange the contents of ``target`` and ``value``; on an error ``target`` has its own."""
    spare.copy_(target)
    try:
        target.copy_(value)
        if not same_bits(target, value):
            raise RuntimeError("the tensor doesn't hold the values that were written to it")
        value.copy_(spare)
    except BaseException:
        target.copy_(spare)
        raise


def _undo(change: Change) -> None:
    if change.replace:
        change.target.data = change.value
    else:
        change.target.detach().copy_(change.value)


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Keep Ctrl-C until the block is through (in the main thread; others never get it)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
        if caught and callable(before):
            before(*caught[0])


def is_alone(tensor: torch.Tensor) -> bool:
    """Whether nothing else refers to the memory of a tensor on the CPU, as far as torch can tell.

    torch counts who uses a tensor and who uses its memory, and marks memory whose address it gave
    to NumPy. Those counts aren't part of its documented interface: where they are missing or don't
    tell views from lone tensors, the answer is False. An address from ``data_ptr()`` isn't counted
    by anyone.

    Args:
        tensor: of any device, shape and type.

    Returns:
        False in doubt: other devices and layouts, tensors of other classes, memory with gaps.
    """
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.device.type != "cpu":
        return False
    if tensor.layout is not torch.strided or not tensor.is_contiguous() or tensor.is_inference():
        return False
    alone = _counts_of_a_lone_tensor()
    return alone is not None and _counts(tensor) == alone


def _counts(tensor: torch.Tensor) -> tuple[object, ...]:
    """Users of the tensor, of its memory and of the Python object for it; and who may resize it."""
    memory = tensor.untyped_storage()
    return (
        tensor._use_count(),  # type: ignore[attr-defined]
        torch._C._storage_Use_Count(memory._cdata),
        sys.getrefcount(memory),
        memory.resizable(),
        memory.is_shared(),
    )


@cache
def _counts_of_a_lone_tensor() -> tuple[object, ...] | None:
    """What :func:`_counts` says of a tensor that nothing else refers to; None if it can't tell."""
    try:
        lone, seen, read = (torch.empty(4) for _ in range(3))
        view, array = seen.detach(), read.numpy()
        counts = _counts(lone)
        telling = counts not in (_counts(seen), _counts(read))
        del view, array
    except (AttributeError, TypeError, RuntimeError):
        return None
    return counts if telling else None
