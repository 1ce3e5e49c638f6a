"""What a training costs before it is begun: arithmetic with every assumption as a number to change.

Nothing here is measured; the numbers that go in are. A chapter or a person measures a few steps,
and this says what a hundred million pictures would take.
"""

import math
from dataclasses import dataclass

YEAR = 365 * 24 * 3600.0


@dataclass(frozen=True)
class Machines:
    """What a job runs on.

    Attributes:
        name: in words.
        devices: processors or GPUs that train.
        pictures_per_second: that one of them trains on when all layers train.
        prepared_per_second: pictures that the cores beside one of them read, decode and augment.
        bandwidth: bytes a second between two machines, or between the GPUs of one.
        price: of an hour of all of them, in any currency.
        hours_between_failures: of one device; math.inf: it never fails.
    """

    name: str
    devices: int
    pictures_per_second: float
    prepared_per_second: float
    bandwidth: float = math.inf
    price: float = 0.0
    hours_between_failures: float = math.inf


@dataclass(frozen=True)
class Method:
    """A way to fine-tune, in shares of the work of training all layers.

    Attributes:
        name: in words.
        step: work of a training step, as a share of one that trains all layers.
        trained: numbers whose gradients the devices exchange.
        once: work for each picture before the first epoch, such as computing its features.
        reads: pictures are read, decoded and augmented in every epoch; with cached features, once.
    """

    name: str
    step: float
    trained: int
    once: float = 0.0
    reads: bool = True


@dataclass(frozen=True)
class Cost:
    """Hours of a training by what they are spent on, and the price.

    Attributes:
        computing: forward and backward.
        preparing: reading, decoding, augmenting; at the same time as computing.
        exchanging: gradients between the devices; taken to be after the computing, which is an
            upper bound: DDP does a part of it meanwhile.
        saving: checkpoints, and what failures cost.
        price: of all.
    """

    computing: float
    preparing: float
    exchanging: float
    saving: float
    price: float

    @property
    def hours(self) -> float:
        """All together: the slower of computing and preparing, and what comes on top."""
        return max(self.computing + self.exchanging, self.preparing) + self.saving

    @property
    def limit(self) -> str:
        """What it waits for."""
        if self.preparing > self.computing + self.exchanging:
            return "preparing"
        return "exchanging" if self.exchanging > self.computing else "computing"


def cost(
    pictures: int, epochs: int, batch: int, machines: Machines, method: Method,
    save_seconds: float = 10.0, restart_seconds: float = 300.0,
) -> Cost:  # fmt: skip
    """What a training costs.

    Args:
        pictures: to learn from.
        epochs: passes over them.
        batch: pictures a step on each device.
        machines: what it runs on.
        method: how it fine-tunes.
        save_seconds: that a checkpoint takes.
        restart_seconds: from a failure until it goes on.
    """
    seen = pictures * epochs
    rate = machines.devices * machines.pictures_per_second
    computing = (pictures * method.once + seen * method.step) / rate
    read = seen if method.reads else pictures
    preparing = read / (machines.devices * machines.prepared_per_second)
    steps = seen / (batch * machines.devices)
    exchanging = steps * all_reduce_seconds(
        4 * method.trained, machines.devices, machines.bandwidth
    )
    busy = max(computing + exchanging, preparing)
    between = 3600 * machines.hours_between_failures / machines.devices
    saving = busy * overhead(young(save_seconds, between), save_seconds, between, restart_seconds)
    hours = (busy + saving) / 3600
    return Cost(computing / 3600, preparing / 3600, exchanging / 3600, saving / 3600,
                hours * machines.price)  # fmt: skip


def all_reduce_seconds(size: float, devices: int, bandwidth: float) -> float:
    """Seconds to add up gradients over a ring of devices: each sends 2 (n - 1) / n of them.

    Source: P. Patarasuk, X. Yuan: Bandwidth optimal all-reduce algorithms for clusters of
    workstations, J. Parallel Distrib. Comput. 69, 2009. Latency isn't counted.

    Args:
        size: bytes of the gradients.
        devices: how many there are.
        bandwidth: bytes a second that each sends.
    """
    return 2 * (devices - 1) / devices * size / bandwidth


def young(save_seconds: float, between_failures: float) -> float:
    """The interval between checkpoints that loses least: the root of 2 x saving x between failures.

    Source: J. W. Young: A first order approximation to the optimum checkpoint interval, CACM 17,
    1974. It holds while saving is short beside the time between failures.

    Args:
        save_seconds: that a checkpoint takes.
        between_failures: mean seconds between two failures of the whole job; it fails when any of
            its devices does.
    """
    return math.sqrt(2 * save_seconds * between_failures)


def overhead(
    interval: float, save_seconds: float, between_failures: float, restart_seconds: float = 0.0
) -> float:
    """The share of time on top: saving, and after a failure half an interval and a restart.

    Args:
        interval: seconds between two checkpoints.
        save_seconds: that a checkpoint takes.
        between_failures: mean seconds between failures; math.inf: none.
        restart_seconds: from a failure until it goes on.
    """
    if math.isinf(between_failures):
        return 0.0
    return save_seconds / interval + (interval / 2 + restart_seconds) / between_failures
