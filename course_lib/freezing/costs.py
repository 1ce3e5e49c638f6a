"""What a training step costs, counted instead of timed: the same on every machine.

Two quantities explain nearly all of what freezing saves. The *work* of convolutions and linear
layers: forward, back for the inputs of a layer and back for its weights are equally much, a third
each. And the *memory* that a step needs beyond the weights: what the forward pass keeps for the way
back, the gradients, the optimizer's moments, and copies that a method makes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class StepCost:
    """One training step in countable things.

    Attributes:
        flops: multiplications and additions in convolutions and matrix products, forward and
            backward (one multiply-add counts two). Normalisation, activation functions and the
            optimizer's arithmetic are not in it: they are few beside it.
        activations: bytes that the forward pass kept for the backward pass. Weights, buffers and
            the batch itself, which are there anyhow, don't count.
        gradients: bytes of the gradients after the step.
        moments: bytes that the optimizer keeps from step to step.
        copies: bytes of copies that the method keeps.
    """

    flops: int
    activations: int
    gradients: int
    moments: int
    copies: int = 0

    @property
    def memory(self) -> int:
        """Bytes beyond the weights."""
        return self.activations + self.gradients + self.moments + self.copies


def cost_of_step(
    model: nn.Module,
    optimizer: Optimizer,
    step: Callable[[], object],
    batch: Iterable[torch.Tensor] = (),
    copies: Iterable[torch.Tensor] = (),
) -> StepCost:
    """Run one step and count what it costs.

    Args:
        model: the model that the step trains.
        optimizer: the one that the step uses.
        step: forward, backward and optimizer step; it is really done, so weights move.
        batch: tensors of any shape that exist anyhow and so aren't counted as kept.
        copies: tensors that the method keeps beside the model.
    """
    anyhow = {_place(tensor) for tensor in (*model.parameters(), *model.buffers(), *batch)}
    kept: dict[int, torch.Tensor] = {}  # alive until counted: else an address could come back

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(_place(tensor), tensor)
        return tensor

    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    with saved_tensors_hooks(keep, lambda tensor: tensor), counter:
        step()
    state = [each for slots in optimizer.state.values() for each in slots.values()]
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    saved = (each.untyped_storage().nbytes() for at, each in kept.items() if at not in anyhow)
    return StepCost(
        flops=counter.get_total_flops(), activations=sum(saved), gradients=_bytes(gradients),
        moments=_bytes(each for each in state if isinstance(each, torch.Tensor)),
        copies=_bytes(copies),
    )  # fmt: skip


def _place(tensor: torch.Tensor) -> int:
    """Where its numbers are: two views of one tensor are kept once."""
    return tensor.untyped_storage().data_ptr()


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _convolution_backward(gradient: Any, inputs: Any, weight: Any, *more: Any, **_: Any) -> int:
    """Operations of a convolution, backward: as many as forward, for each gradient wanted.

    The arguments are those of ``aten::convolution_backward``, with shapes in place of tensors.

    (torch's own count takes the weight gradient of a grouped convolution for one without groups,
    which for EfficientNet's depthwise layers is hundreds of times too much.)
    """
    transposed, wanted = more[4], more[7]  # of (bias_sizes, stride, padding, dilation, transposed,
    size = inputs if transposed else gradient  # output_padding, groups, output_mask)
    forward = 2 * size[0] * prod(size[2:]) * prod(weight)
    return forward * (wanted[0] + wanted[1])
