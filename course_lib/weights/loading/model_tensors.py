"""The tensors of a model that weights can be loaded into, and which of them are one memory."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from course_lib.weights.errors import LoadError


@dataclass(frozen=True)
class ModelTensors:
    """The live tensors behind a model's state dict.

    Attributes:
        tensors: name -> the very parameter or buffer, in the state dict's order.
        leader: name -> the first name of the same memory (itself, for most).
        parameters: the names that are parameters; the others are buffers.
        extra: names under which modules keep objects of their own, which are not loaded.
    """

    tensors: dict[str, torch.Tensor]
    leader: dict[str, str]
    parameters: frozenset[str]
    extra: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: nn.Module) -> "ModelTensors":
        """What of a model can be loaded: parameters and persistent buffers.

        Raises:
            LoadError: a tensor can't be written to: it has no shape yet (lazy modules), no values
                (meta device), is no plain tensor, or shares only a part of its memory.
        """
        live: dict[str, torch.Tensor] = {}
        live |= model.named_parameters(remove_duplicate=False)
        parameters = frozenset(live)
        live |= model.named_buffers(remove_duplicate=False)
        tensors: dict[str, torch.Tensor] = {}
        extra: list[str] = []
        state: dict[str, Any] = model.state_dict(keep_vars=True)
        for name, value in state.items():
            if name.endswith("_extra_state"):
                extra.append(name)
                continue
            if name not in live or value is not live[name]:
                raise LoadError(
                    f"{type(model).__name__} computes {name!r} when it is asked for its state "
                    "dict; only tensors that are parameters or buffers can be loaded. Use the "
                    "model's own load_state_dict."
                )
            _check(name, value)
            tensors[name] = value
        if not tensors:
            raise LoadError(f"{type(model).__name__} has no parameters and no buffers to load.")
        return cls(tensors, _leaders(tensors), parameters & tensors.keys(), tuple(extra))

    @property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Names of the same memory, such as an embedding and an output layer, in groups."""
        groups: dict[str, list[str]] = defaultdict(list)
        for name, first in self.leader.items():
            groups[first].append(name)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _check(name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise LoadError(
            f"{name!r} has no shape yet (a lazy module). Run one batch through the model first."
        )
    if tensor.is_inference():
        raise LoadError(
            f"{name!r} was made in torch.inference_mode() and can't be written to. "
            "Build the model outside of it."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise LoadError(
            f"{name!r} is a sparse or quantised tensor; use the model's own load_state_dict."
        )
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    if any(size > 1 and step == 0 for size, step in steps):
        raise LoadError(f"{name!r} is an expanded tensor: several elements share one memory.")


def _leaders(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """The first name for each memory; an error for memory that is shared in part."""
    spans: dict[tuple[object, ...], str] = {}
    leader: dict[str, str] = {}
    ranges: list[tuple[str, int, int, str]] = []
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or tensor.device.type == "meta":
            leader[name] = spans.setdefault((id(tensor),), name)
            continue
        start = tensor.data_ptr()
        key = (tensor.device, start, tensor.dtype, tuple(tensor.shape), tensor.stride())
        leader[name] = spans.setdefault(key, name)
        if leader[name] == name:
            steps = zip(tensor.shape, tensor.stride(), strict=True)
            span = sum((size - 1) * step for size, step in steps) + 1
            ranges.append((str(tensor.device), start, start + span * tensor.itemsize, name))
    ranges.sort()
    for (device, _, end, name), (other_device, start, _, other) in pairwise(ranges):
        if device == other_device and start < end and _interleaved(tensors[name], tensors[other]):
            raise LoadError(
                f"{name!r} and {other!r} share a part of their memory without being the same: "
                "loading one would change the other."
            )
    return leader


def _interleaved(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two overlapping stretches really share an element (columns of a matrix don't)."""
    if first.is_contiguous() or second.is_contiguous() or first.stride() != second.stride():
        return True
    step = max(first.stride(), default=1)
    gap = (second.data_ptr() - first.data_ptr()) // first.itemsize
    width = 1 + sum(
        (size - 1) * each for size, each in zip(first.shape, first.stride(), strict=True)
        if each != step
    )  # fmt: skip
    return not width <= gap % step <= step - width
