"""What freezing saves, beside what theory says it should: ``course bench freezing``.

Full training, the five methods, the course's ``freeze`` and a lower bound take turns in one run,
on the same batch; all but the head is frozen. The bound does what can't be left out: a forward
pass of the body in inference mode with no gradients, then forward, backward and step of the head
alone. Bar: the course's freeze takes at most 10 % longer than the bound.

Seconds are the processor's on one thread. Memory is what the process took at most beyond the
weights, each way in a fresh process. Beside both stand counted figures, which don't depend on the
machine: operations, and bytes kept (see ``course_lib.freezing.costs``).
"""

import argparse
import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from course_lib import backbones
from course_lib.benchmarks.loading import peak_resident, reset_peak, resident
from course_lib.benchmarks.throughput import median_ratio, take_turns, torch_threads
from course_lib.freezing.costs import StepCost, cost_of_step
from course_lib.freezing.matrix import ROWS, CourseFreeze
from course_lib.freezing.methods import RequiresGrad

BACKBONES = ("efficientnet_lite0", "resnet18")
SIDE, BATCH, REPEATS = 96, 8, 7  # sizes of the tiny profile
BAR = 1.10

FULL = "all trained"
OURS = CourseFreeze.title
BOUND = "forward-only bound"
WAYS = (FULL, *(kind.title for kind in ROWS), BOUND)


@dataclass
class Trainer:
    """One way to train a model's head: what takes a step, and what it is made of."""

    model: nn.Module
    optimizer: Optimizer
    step: Callable[[], object]
    batch: tuple[Tensor, Tensor]
    copies: list[Tensor]

    def cost(self) -> StepCost:
        """Operations and bytes of a step; one step before gives the optimizer its moments."""
        self.step()
        return cost_of_step(self.model, self.optimizer, self.step, self.batch, self.copies)


@dataclass(frozen=True)
class Measured:
    """One way on one backbone.

    Attributes:
        way: one of ``WAYS``.
        seconds: processor time of each round.
        cost: of a step, counted.
        peak: bytes that a fresh process took beyond the weights.
    """

    way: str
    seconds: list[float]
    cost: StepCost
    peak: int


def build(backbone: str) -> nn.Module:
    """The same model each time; random weights take as long as trained ones."""
    torch.manual_seed(0)
    return backbones.load(backbone, num_classes=2, pretrained=False)


def random_batch(side: int, size: int) -> tuple[Tensor, Tensor]:
    """Noise (size, 3, side, side), and two classes in turn (size,)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 3, side, side, generator=generator), torch.arange(size) % 2


def trainer(way: str, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Trainer:
    """Prepare ``model`` to be trained in one of ``WAYS``."""
    model.train()
    if way == BOUND:
        return _bound(model, batch)
    kinds = {kind.title: kind for kind in ROWS}
    method = kinds.get(way, RequiresGrad)()  # untold to freeze anything, it is the plain loop
    head = backbones.head_name(model)
    if way != FULL:
        method.freeze(model, [name for name, _ in model.named_children() if name != head])
    optimizer = method.make_optimizer(model, _sgd)
    images, targets = batch

    def loss(model: nn.Module) -> Tensor:
        return nn.functional.cross_entropy(model(images), targets)

    copies = list(getattr(method, "cache", ()))
    return Trainer(model, optimizer, lambda: method.step(model, optimizer, loss), batch, copies)


def _bound(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Trainer:
    """The body in inference mode under ``no_grad``, the head trained on what comes out."""
    name = backbones.head_name(model)
    head = model.get_submodule(name)
    body = copy.copy(model)  # shares all modules but the head
    body._modules = {**model._modules, name: nn.Identity()}
    for module in body.children():
        module.requires_grad_(False).eval()
    body.training = False
    optimizer = _sgd(list(head.parameters()))
    images, targets = batch

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            features = body(images)
        loss = nn.functional.cross_entropy(head(features), targets)
        loss.backward()
        optimizer.step()
        loss.item()

    return Trainer(model, optimizer, step, batch, [])


def _sgd(parameters: list[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)


def measure(
    backbone: str, side: int = SIDE, size: int = BATCH, repeats: int = REPEATS
) -> list[Measured]:
    """Time all ways in turn, and count what each does; memory in processes of their own."""
    batch = random_batch(side, size)
    trainers = {way: trainer(way, build(backbone), batch) for way in WAYS}
    seconds = take_turns(
        {way: each.step for way, each in trainers.items()}, repeats, clock=time.process_time
    )
    costs = {way: each.cost() for way, each in trainers.items()}
    del trainers
    return [
        Measured(way, seconds[way], costs[way], peak_in_fresh_process(way, backbone, side, size))
        for way in WAYS
    ]


def peak_memory(way: str, backbone: str, side: int, size: int) -> int:
    """Bytes that this process takes at most beyond model and batch, over three steps."""
    batch, model = random_batch(side, size), build(backbone)
    with torch.no_grad():  # what the libraries set up at their first call isn't the method's
        copy.deepcopy(model).eval()(batch[0][:1])
    before = resident()
    reset_peak()
    ready = trainer(way, model, batch)
    for _ in range(3):
        ready.step()
    return peak_resident() - before


def peak_in_fresh_process(way: str, backbone: str, side: int, size: int) -> int:
    """:func:`peak_memory` in a process in which nothing else has been."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, torch.set_num_threads, (1,)) as pool:
        return pool.submit(peak_memory, way, backbone, side, size).result()


def table(results: list[Measured]) -> str:
    """Each way: time and memory as shares of full training's, measured and counted."""
    found = {each.way: each for each in results}
    full = found[FULL]
    lines = [
        f"{'':<26}{'ms a step':>10}{'time':>8}{'work':>8}{'MB peak':>10}{'memory':>8}{'kept':>8}",
        f"{'':<26}{'':>10}{'measured':>9}{'counted':>8}{'':>9}{'measured':>9}{'counted':>8}",
    ]
    for each in results:
        lines.append(
            f"{each.way:<26}{1e3 * statistics.median(each.seconds):>10.1f}"
            f"{median_ratio(each.seconds, full.seconds):>8.2f}"
            f"{each.cost.flops / full.cost.flops:>8.2f}"
            f"{each.peak / 1e6:>10.1f}{each.peak / full.peak:>8.2f}"
            f"{each.cost.memory / full.cost.memory:>8.2f}"
        )
    ratio = median_ratio(found[OURS].seconds, found[BOUND].seconds)
    verdict = "within" if ratio <= BAR else "over"
    lines.append(f"{OURS} / {BOUND}: {ratio:.3f}, {verdict} the bar of {BAR:.2f}.")
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> None:
    """Print a table for each backbone."""
    parser = argparse.ArgumentParser(prog="freezing", description=__doc__)
    parser.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    parser.add_argument("--side", type=int, default=SIDE, help="of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    with torch_threads(1):  # as in the tiny profile
        for backbone in options.backbones:
            print(f"{backbone}, {options.batch} pictures of {options.side} pixels, one thread")
            print(table(measure(backbone, options.side, options.batch, options.repeats)))
            print(flush=True)
