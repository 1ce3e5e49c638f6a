"""How fast does a model compute, and how do two ways compare?"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib import profile
from course_lib.training import TrainingError, WeightSnapshot
from course_lib.training.evaluation import model_device, modes_of, restore_modes


def images_per_second(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    steps: int = 5,
    train: bool = True,
    warmup: int = 2,
) -> float:
    """Images a second, from the median step over one batch that is there already.

    A training step is forward pass, cross-entropy, backward pass and an SGD step over the
    parameters that require a gradient; otherwise it is a forward pass as in inference. The first
    steps, which reserve memory and choose algorithms, don't count; the median shrugs off a step
    that something else on the machine disturbed. Loading pictures is not part of it.

    Afterwards weights, buffers, modes and gradients are those from before.

    Args:
        model: where it is.
        batch: images (B, ...) and class numbers (B,); moved to the model's device.
        steps: how many to measure.
        train: a training step, or inference.
        warmup: steps before the measured ones.

    Raises:
        TrainingError: no steps, or nothing to train.
    """
    if steps < 1 or warmup < 0:
        raise TrainingError(f"Expected steps >= 1 and warmup >= 0, found {steps} and {warmup}.")
    device = model_device(model)
    images, targets = (each.to(device) for each in batch)
    step = _training(model, images, targets) if train else _inference(model, images)
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    before, modes = WeightSnapshot(model), modes_of(model)
    try:
        with profile.own_streams(devices=[device]):
            model.train(train)  # frozen modules stay in inference mode by themselves
            for _ in range(warmup):
                step()
            seconds = [measure(step, device) for _ in range(steps)]
    finally:
        before.restore(model)
        restore_modes(model, modes)
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return len(images) / statistics.median(seconds)


def _training(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], None]:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise TrainingError(
            "Nothing to train: no parameter of the model requires a gradient. Unfreeze the head, "
            "or measure inference with train=False."
        )
    # lr=0 costs the same as any other: the weights can't run away, however many steps there are.
    optimizer: Optimizer = torch.optim.SGD(trainable, lr=0.0, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        optimizer.step()

    return step


def _inference(model: nn.Module, images: Tensor) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            model(images)

    return step


def measure(
    step: Callable[[], object],
    device: torch.device | str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds that one call takes, until the device is done with it.

    ``time.process_time`` as the clock counts the processor's time alone: on one thread, what
    other programs take meanwhile doesn't show.
    """
    _wait_for(torch.device(device))
    began = clock()
    step()
    _wait_for(torch.device(device))
    return clock() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, the ways taking turns, so that a slow moment hits all of them alike.

    Every other round goes the other way around: what comes second finds warmer caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warmup, repeats):
        order = list(ways) if number % 2 else list(ways)[::-1]
        for name in order:
            taken = measure(ways[name], clock=clock)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the ratios of measurements that belong to the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
