"""What the training loop costs beside a bare PyTorch loop: ``course bench training``.

The bare loop does the five things without which nothing is trained: clear the gradients, forward
pass, loss, backward pass, optimizer step. The course's loop also checks the batch, counts what is
right, keeps the history and the best weights. Bar: at most 2 % more time.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import timm
import torch
from torch import Tensor, nn

from course_lib import profile
from course_lib.benchmarks.throughput import torch_threads
from course_lib.training import finetune

Batches = list[tuple[Tensor, Tensor]]


# The processor's time on our one thread: what other programs take of it doesn't count.
CLOCK = time.process_time


def no_weight() -> nn.Module:
    """A model that does nearly nothing: what is left is what the loop itself costs."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 2))


def small_cnn() -> nn.Module:
    """A network with about 10 ms a step: next to it, what the loop adds weighs the most."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 2),
    )  # fmt: skip


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with two classes; random weights take as long as trained ones."""
    return timm.create_model("tf_efficientnet_lite0", num_classes=2)


def bare_step(model: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """A training step with nothing around it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, weight_decay=1e-3)
    loss = nn.CrossEntropyLoss()
    model.train()

    def step(images: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad()
        loss(model(images), targets).backward()
        optimizer.step()

    return step


class Interleaved:
    """Batches for our loop, with a step of other loops before each: all meet the same moments.

    A machine that does other things too is slower at one moment than at another, by more than
    the few parts in a hundred that are to be found.
    """

    def __init__(self, batches: Batches, steps: list[Callable[[Tensor, Tensor], None]]) -> None:
        self.batches, self.steps = batches, steps
        self.seconds = [0.0] * len(steps)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = list(enumerate(self.steps))
        for batch in self.batches:
            for number, step in order:
                began = CLOCK()
                step(*batch)
                self.seconds[number] += CLOCK() - began
            order.reverse()  # what comes second finds warmer caches
            yield batch


def side_by_side(model: nn.Module, batches: Batches, epochs: int) -> tuple[float, float, float]:
    """Seconds of our loop, of the bare one, and of a second bare one, on copies of a model.

    Ours is a whole run of :func:`course_lib.training.finetune`, with all that is before and after
    the first and the last batch.
    """
    steps = [bare_step(copy.deepcopy(model)) for _ in range(2)]
    data = Interleaved(batches, steps)
    ours = copy.deepcopy(model)
    began = CLOCK()
    finetune(
        ours, data, epochs=epochs, lr=1e-4, head_lr_factor=1.0, device="cpu", amp=False,
        progress=False,
    )  # fmt: skip
    bare, again = data.seconds
    return CLOCK() - began - bare - again, bare, again


def compare(
    make: Callable[[], nn.Module], side: int, batch: int, steps: int, epochs: int, repeats: int
) -> str:
    """One line: milliseconds a step, what ours adds to it, and the ratio of ours to the bare loop.

    The ratio of the two bare loops shows what the measurement can tell apart.

    Args:
        make: makes the model.
        side: of the square images, in pixels.
        batch: images a step.
        steps: an epoch.
        epochs: a run.
        repeats: runs; the line gives their medians.
    """
    images = torch.randn(batch, 3, side, side, generator=profile.seeded_generator(0))
    batches = [(images, torch.arange(batch) % 2)] * steps
    model = make()
    side_by_side(model, batches, epochs=1)  # the first one warms up
    runs = [side_by_side(model, batches, epochs) for _ in range(repeats)]
    median = statistics.median
    bare = 1e3 * median(bare for _, bare, _ in runs) / steps / epochs
    added = 1e3 * median(ours - bare for ours, bare, _ in runs) / steps / epochs
    ratio = median(ours / bare for ours, bare, _ in runs)
    noise = median(again / bare for _, bare, again in runs)
    return (
        f"{bare:8.2f} ms a step   {added:+6.2f} ms   course/bare {ratio:.3f}   "
        f"bare/bare {noise:.3f}"
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the ratios."""
    argparse.ArgumentParser(prog="training", description=__doc__).parse_args(arguments)
    with torch_threads(1):  # as in the tiny profile
        print("next to nothing  ", compare(no_weight, 1, batch=16, steps=300, epochs=2, repeats=9))
        print("small CNN, 32 px ", compare(small_cnn, 32, batch=16, steps=50, epochs=2, repeats=9))
        # A run of the tiny profile's size, in which the set-up weighs as much as it ever does.
        print("Lite0, 96 px     ", compare(lite0, 96, batch=16, steps=6, epochs=3, repeats=5))
