"""Which of several processes this one is, and what they say to each other.

``torchrun`` starts the processes and tells each its number in the environment; without it there is
one. The same code runs in both cases.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from course_lib import profile
from course_lib.errors import CourseError

PATIENCE = timedelta(minutes=30)
"""So long a process waits for the others: while rank 0 saves or looks through a folder."""

NOTE = "course/port"


@dataclass(frozen=True)
class Ranks:
    """This process among its like.

    Attributes:
        rank: its number, from 0; 0 saves and speaks.
        world: how many there are.
        device: where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether it is the one that saves and speaks."""
        return self.rank == 0

    def sum(self, numbers: Tensor) -> Tensor:
        """Sums over the processes, of a tensor on the device; the same on each."""
        if self.world > 1:
            dist.all_reduce(numbers)
        return numbers

    def gather(self, what: Any) -> list[Any]:
        """What each process has, in their order, on every one of them."""
        if self.world == 1:
            return [what]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, what)
        return found

    def tell(self, what: Any) -> Any:
        """What rank 0 has, on every one of them."""
        if self.world == 1:
            return what
        carrier = [what]
        dist.broadcast_object_list(carrier, src=0)
        return carrier[0]

    def in_step(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; None on a process that has no more while another still has some."""
        while any(self.gather((batch := next(batches, None)) is not None)):
            yield batch

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of rank 0, such as BatchNorm's statistics."""
        if self.world > 1:
            for each in model.buffers():
                dist.broadcast(each, src=0)

    def together(self, model: nn.Module) -> nn.Module:
        """The model as it is trained: wrapped, so that all processes take the same steps.

        DistributedDataParallel notes, when it is made, which parameters require a gradient. So wrap
        after freezing, and wrap anew after every change of it.
        """
        if self.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids)


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, joined inside; one process without it.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Raises:
        CourseError: a device that isn't there.
    """
    kind = profile.best_device() if device == "auto" else device
    local = int(os.environ.get("LOCAL_RANK", 0))
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise CourseError(
            f"Process {local} of this machine finds {torch.cuda.device_count()} CUDA devices. "
            "Start as many processes as there are (torchrun --nproc-per-node), or take device = "
            '"cpu".'
        )
    place = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield Ranks(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    rank = int(os.environ["RANK"])
    dist.init_process_group(
        "nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE,
        store=_meeting_place(rank), rank=rank, world_size=world,
    )  # fmt: skip
    try:
        yield Ranks(rank, world, place)
    finally:
        dist.destroy_process_group()


def _meeting_place(rank: int) -> dist.Store:
    """Where the processes tell each other their addresses: a store that rank 0 keeps.

    torchrun has one, too, but keeps it when it starts the processes again; then they call at the
    addresses of those that were killed (pytorch/pytorch issue 135712). So it serves only to say
    where rank 0's store is, and whoever reads there of one that is gone asks again.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return dist.TCPStore(host, port, is_master=rank == 0, timeout=PATIENCE)
    notes = dist.TCPStore(host, port, is_master=False, timeout=PATIENCE)
    if rank == 0:
        own = dist.TCPStore(host, 0, is_master=True, timeout=PATIENCE)
        notes.set(NOTE, str(own.port))
        return own
    until = time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            found = dist.TCPStore(
                host, int(notes.get(NOTE)), is_master=False, timeout=timedelta(seconds=5)
            )
        except dist.DistError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
        else:
            found.set_timeout(PATIENCE)
            return found
