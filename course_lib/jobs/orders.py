"""Freezing and DistributedDataParallel in the right order and in wrong ones, tried out.

DistributedDataParallel notes when it is made which parameters require a gradient: these it averages
over the processes, in buckets that it waits for. What is frozen or let go afterwards, it doesn't
notice. Two processes on this machine show what comes of it.
"""

import copy
import multiprocessing
import os
import socket
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from course_lib import freezing

STEPS = 3


@dataclass(frozen=True)
class Outcome:
    """What came of an order.

    Attributes:
        order: in words.
        error: the first sentence of what torch raised; empty if it ran.
        apart: names of the parameters that differ between the processes afterwards.
        moved: names of the parts whose parameters have changed.
        statistics: BatchNorm's running mean ``"stays"``, or follows the pictures of ``"rank 0"``
            alone, whose buffers are sent to the others.
    """

    order: str
    error: str
    apart: tuple[str, ...]
    moved: tuple[str, ...]
    statistics: str

    def __str__(self) -> str:
        if self.error:
            return f"{self.order}: {self.error}"
        apart = f"differs between the processes: {', '.join(self.apart)}" if self.apart else "equal"
        return (
            f"{self.order}: {apart}; moved: {', '.join(self.moved)}; BatchNorm: {self.statistics}"
        )


def _network() -> nn.Module:
    torch.manual_seed(0)
    parts = {"body": nn.Linear(4, 4), "norm": nn.BatchNorm1d(4), "head": nn.Linear(4, 2)}
    return nn.Sequential(OrderedDict(parts))


GoOn = Callable[[nn.Module], nn.Module]  # what is done in the middle: wrapped -> wrapped
Order = Callable[[nn.Module], tuple[nn.Module, GoOn]]


def _freeze_then_wrap(model: nn.Module) -> tuple[nn.Module, GoOn]:
    freezing.freeze(model, "body")
    return DistributedDataParallel(model), lambda wrapped: wrapped


def _wrap_then_freeze(model: nn.Module) -> tuple[nn.Module, GoOn]:
    wrapped = DistributedDataParallel(model)
    freezing.freeze(model, "body")
    return wrapped, lambda same: same


def _wrap_then_freeze_unused(model: nn.Module) -> tuple[nn.Module, GoOn]:
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    freezing.freeze(model, "body")
    return wrapped, lambda same: same


def _unfreeze_inside(model: nn.Module) -> tuple[nn.Module, GoOn]:
    freezing.freeze(model, "body")

    def go_on(wrapped: nn.Module) -> nn.Module:
        freezing.unfreeze(model, "body")
        return wrapped

    return DistributedDataParallel(model), go_on


def _unfreeze_and_wrap(model: nn.Module) -> tuple[nn.Module, GoOn]:
    freezing.freeze(model, "body")

    def go_on(_: nn.Module) -> nn.Module:
        freezing.unfreeze(model, "body")
        return DistributedDataParallel(model)

    return DistributedDataParallel(model), go_on


def _hold_norm(model: nn.Module) -> tuple[nn.Module, GoOn]:
    freezing.freeze(model, ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"])
    return DistributedDataParallel(model), lambda wrapped: wrapped


ORDERS = {
    "freeze, then wrap": _freeze_then_wrap,
    "wrap, then freeze": _wrap_then_freeze,
    "wrap with find_unused_parameters=True, then freeze": _wrap_then_freeze_unused,
    "unfreeze in the middle": _unfreeze_inside,
    "unfreeze in the middle, and wrap again": _unfreeze_and_wrap,
    "hold BatchNorm's statistics, then wrap": _hold_norm,
}


def try_orders() -> list[Outcome]:
    """Each of :data:`ORDERS`, in two processes that see different pictures."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        # A fork has torch already; elsewhere than on Linux it isn't safe.
        start: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        path = str(Path(folder) / "outcomes.pt")
        children = [start.Process(target=_child, args=(rank, port, path)) for rank in range(2)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            for each in children:
                each.start()
        for each in children:
            each.join()
        rows = torch.load(path, weights_only=True)
    return [Outcome(order, *row) for order, row in zip(ORDERS, rows, strict=True)]


def _child(rank: int, port: int, path: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    rows = [_outcome(each, rank) for each in ORDERS.values()]
    if rank == 0:
        torch.save(rows, path)
    dist.destroy_process_group()


def _outcome(order: Order, rank: int) -> tuple[str, tuple[str, ...], tuple[str, ...], str]:
    model = _network()
    before = copy.deepcopy(model.state_dict())
    wrapped, go_on = order(model)
    stream = torch.Generator().manual_seed(rank)
    error = ""
    for step in range(2 * STEPS):
        if step == STEPS:
            wrapped = go_on(wrapped)
        try:
            _step(wrapped, model, torch.randn(8, 4, generator=stream) + rank)
        except RuntimeError as problem:
            error = str(problem).split(". ")[0].strip() + "."
            break
    states: list[dict[str, Tensor]] = [{}, {}]
    dist.all_gather_object(states, model.state_dict())
    names = [n for n, _ in model.named_parameters()]
    apart = tuple(n for n in names if not torch.equal(states[0][n], states[1][n]))
    moved = {n.split(".")[0] for n in names if not torch.equal(before[n], states[0][n])}
    mean = "norm.running_mean"
    stays = torch.equal(before[mean], states[0][mean])
    return error, apart, tuple(p for p in ("body", "norm", "head") if p in moved), (
        "stays" if stays else "rank 0"
    )  # fmt: skip


def _step(wrapped: nn.Module, model: nn.Module, inputs: Tensor) -> None:
    """One step of plain SGD over what requires a gradient now."""
    model.train()
    for each in model.parameters():
        each.grad = None
    nn.functional.cross_entropy(wrapped(inputs), torch.arange(8) % 2).backward()
    with torch.no_grad():
        for each in model.parameters():
            if each.grad is not None:
                each.sub_(each.grad, alpha=0.1)
