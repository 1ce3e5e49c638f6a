"""Is a tensor the only user of its memory?

Then the memory can be exchanged for another one instead of being written to, and nobody notices. A
view, a state dict, a NumPy array, a graph that waits for its backward pass or another process would
notice: it would go on seeing the old values.
"""

import sys
from functools import cache

import torch


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
