"""How a loss adds up over a batch: found out by calling it, not read from an attribute.

``partial(F.cross_entropy, reduction="sum")`` and a module of your own have no attribute to read,
and a mean weighed by class is neither a sum nor the mean over the examples.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]


def total_loss(
    loss: Loss, parts: Sequence[float], logits: Sequence[Tensor], targets: Sequence[Tensor]
) -> float:
    """The sum over the examples of all batches, so that divided by N it is the mean.

    The loss is called on all of them at once and compared with its parts. If it is neither their
    sum nor their mean, as with class weights, its value on all of them counts, which doesn't hang
    on how they were cut into batches.

    Args:
        loss: of scores (B, C) and targets (B,).
        parts: what it gave for each batch, as one number; the sum over (B,) for one that gives a
            number an example.
        logits: scores (B, C) of each batch.
        targets: class numbers (B,) of each batch.
    """
    sizes = [len(each) for each in targets]
    every, truth = torch.cat(list(logits)), torch.cat(list(targets))
    n = len(truth)
    with torch.no_grad():
        value = loss(every, truth)
        if value.ndim:  # a number an example
            return float(sum(parts))
        whole = float(value)
        if sum(size > 0 for size in sizes) > 1:
            cut = list(parts)
        else:  # one batch: cut it in two; one example: double it
            if n == 1:
                every, truth = every.repeat(2, 1), truth.repeat(2)
                whole = float(loss(every, truth))
            sizes = [len(truth) // 2, len(truth) - len(truth) // 2]
            pairs = zip(every.split(sizes), truth.split(sizes), strict=True)
            cut = [float(loss(*pair)) for pair in pairs]
    means = sum(part * size for part, size in zip(cut, sizes, strict=True) if size)
    added = sum(part for part, size in zip(cut, sizes, strict=True) if size)
    count = sum(sizes)
    near = 1e-4 if every.dtype in (torch.float32, torch.float64) else 0.02
    if _close(whole, means / count, near):
        return means * n / count
    if _close(whole, added, near):
        return added * n / count
    return whole * n


def _close(first: float, second: float, near: float) -> bool:
    return abs(first - second) <= near * max(abs(first), abs(second)) + 1e-12
