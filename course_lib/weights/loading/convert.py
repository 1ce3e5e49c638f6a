"""Change a tensor's type, and say what that cost."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch

from course_lib.text import counted


@dataclass(frozen=True)
class Cost:
    """What a conversion did to the numbers.

    Attributes:
        text: in words: ``exact``, ``rounded, by up to 5.9e-08 of a number``, ...
        destructive: whether more than rounding was lost: numbers that became infinite, imaginary
            parts, fractions cut off.
    """

    text: str
    destructive: bool


def convert(tensor: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, Cost]:
    """``tensor`` as ``dtype``, and the cost.

    Args:
        tensor: CPU tensor of any shape.
        dtype: the new type.

    Returns:
        A new tensor (never one that shares memory), and what the conversion did.
    """
    source = tensor
    if tensor.is_complex() and not dtype.is_complex:
        lost = int((tensor.imag != 0).sum())
        if lost:
            return tensor.real.to(dtype), Cost(
                f"{counted(lost, 'number')} lost an imaginary part", True
            )
        tensor = tensor.real
    result = tensor.to(dtype, copy=True)
    if result.is_complex() and not source.is_complex():
        back = result.real.to(source.dtype)
    else:
        back = result.to(tensor.dtype)
    if _same(back, tensor):
        return result, Cost("exact", False)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        finite = torch.isfinite(tensor)
        if not (dtype.is_floating_point or dtype.is_complex):
            lost = int((_wide(back) != _wide(tensor)).sum())
            return result, Cost(f"{counted(lost, 'number')} lost a fraction or more", True)
        burst = int((finite & ~torch.isfinite(_wide(result))).sum())
        if burst:
            return result, Cost(f"{counted(burst, 'number')} became infinite", True)
        wide, near = _wide(tensor)[finite], _wide(back)[finite]
        error = ((wide - near).abs() / wide.abs().clamp_min(1e-300)).max().item()
        if error >= 1:
            gone = int(((near == 0) & (wide != 0)).sum())
            return result, Cost(f"rounded; {counted(gone, 'number')} became zero", False)
        return result, Cost(f"rounded, by up to {error:.1e} of a number", False)
    lost = int((back != tensor).sum())
    if dtype.is_floating_point:
        return result, Cost(f"{counted(lost, 'number')} rounded", False)
    return result, Cost(f"{counted(lost, 'number')} changed", True)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.dtype != second.dtype:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def count_nonfinite(tensor: torch.Tensor) -> int:
    """How many elements of a tensor of any shape are NaN or infinite.

    One pass over the memory when there are none. NumPy makes it: torch would wake all its threads
    for each tensor, which takes longer than the work where other programs use the machine, too.
    """
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64):
        with np.errstate(all="ignore"):
            total = tensor.detach().resolve_neg().numpy().sum()
        if isfinite(total):
            return 0  # one NaN or infinite number would have made the sum so
    if tensor.dtype.itemsize == 1 or tensor.is_complex():
        return int((~torch.isfinite(_wide(tensor))).sum())
    low, high = torch.aminmax(tensor)  # a NaN anywhere becomes both
    if isfinite(low.item()) and isfinite(high.item()):
        return 0
    return int((~torch.isfinite(tensor)).sum())
