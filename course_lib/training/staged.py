"""What staged fine-tuning adds to the loop: rates by depth, warm-up, held statistics, a pull."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from course_lib import freezing
from course_lib.training.groups import check_not_negative


def depth_rates(blocks: tuple[str, ...], rate: float, depth_factor: float) -> dict[str, float]:
    """A learning rate for each part: ``rate * depth_factor`` for the first, rising in equal ratios.

    The head, which comes after the last part, gets ``rate`` itself.

    >>> depth_rates(("conv1", "conv2"), 0.01, 0.25)
    {'conv1': 0.0025, 'conv2': 0.005}
    """
    steps = len(blocks)
    return {
        name: rate * depth_factor ** ((steps - place) / steps) for place, name in enumerate(blocks)
    }


def warm_up_and_fall(warm_up: int, epochs: int) -> Callable[[int], float]:
    """By which factor the rates are multiplied in an epoch, counted from 0.

    It rises in equal steps to 1 in the epochs of warm-up and the one after them, then falls along
    half a cosine; in the last epoch it is still above 0.
    """

    def factor(epoch: int) -> float:
        if epoch < warm_up:
            return (epoch + 1) / (warm_up + 1)
        done = (epoch - warm_up) / max(1, epochs - warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def hold_statistics(model: nn.Module) -> list[str]:
    """Make BatchNorm compute with its running statistics, and leave them, in training too.

    Its weights and biases go on training. Undo it with ``freezing.unfreeze`` of the same names.

    Returns:
        The names of the buffers that are held.
    """
    kinds = nn.modules.batchnorm._BatchNorm
    names = [
        f"{place}.{name}".lstrip(".")
        for place, module in model.named_modules()
        if isinstance(module, kinds) and module.track_running_stats
        for name, _ in module.named_buffers(recurse=False)
    ]
    if names:
        freezing.freeze(model, names)
    return names


def pull_to_start(optimizer: Optimizer, strength: float) -> Callable[[], None]:
    """Weight decay towards where the weights are now instead of towards zero (L2-SP).

    Before each step, ``strength * (weight - start)`` is added to every gradient. What is frozen,
    and so has no gradient, is left alone.

    Source: X. Li, Y. Grandvalet, F. Davoine: Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks, ICML 2018, arXiv:1802.01483.

    Args:
        optimizer: its parameters are pulled. Parameters that join later are not.
        strength: 0 or more.

    Returns:
        A function that ends the pull.

    Raises:
        TrainingError: a negative strength.
    """
    check_not_negative("strength", strength)
    starts = [
        (weight, weight.detach().clone())
        for group in optimizer.param_groups
        for weight in group["params"]
    ]

    @torch.no_grad()
    def pull(*_: object) -> None:
        for weight, start in starts:
            if weight.grad is not None:
                weight.grad.add_(weight - start, alpha=strength)

    return optimizer.register_step_pre_hook(pull).remove
