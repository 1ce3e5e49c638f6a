"""How do several ways to compute the same compare in time?"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, the ways taking turns, so that a slow moment hits all of them alike.

    Every other round goes the other way around: what comes second finds warmer caches. A round
    before the first isn't counted.

    Args:
        ways: name to what is timed.
        repeats: rounds that count.
        clock: ``time.process_time`` counts the processor's time alone: on one thread, what other
            programs take meanwhile doesn't show.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1, repeats):
        order = list(ways) if number % 2 else list(ways)[::-1]
        for name in order:
            began = clock()
            ways[name]()
            if number >= 0:
                seconds[name].append(clock() - began)
    return seconds


def median_ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the ratios of measurements that belong to the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """So many threads for torch; afterwards as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
