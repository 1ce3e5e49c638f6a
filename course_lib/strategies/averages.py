"""Averages of the weights of networks that were trained from the same start.

Networks trained from different starts don't average: their weights agree in nothing but shape.

* **WiSE-FT** goes a part of the way from the start to the fine-tuned weights: M. Wortsman et al.:
  Robust fine-tuning of zero-shot models, CVPR 2022, arXiv:2109.01903.
* A **soup** is the mean of several fine-tuned networks; a greedy one takes in only what helps:
  M. Wortsman et al.: Model soups, ICML 2022, arXiv:2203.05482.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn

from course_lib.strategies.inserts import StrategyError
from course_lib.training.snapshot import named_tensors


@torch.no_grad()
def average(models: Sequence[nn.Module], shares: Sequence[float] | None = None) -> nn.Module:
    """A network whose weights are the weighted mean of several networks' weights.

    Running statistics are averaged too. Whole numbers, such as BatchNorm's count of batches, are
    the last network's. The networks given are left alone.

    Args:
        models: with parameters and buffers of the same names and shapes.
        shares: one a network, adding up to 1; equal by default.

    Raises:
        StrategyError: no network, networks that don't match, or shares that don't.
    """
    if not models:
        raise StrategyError("There is no network to average; expected one or more.")
    parts = [1 / len(models)] * len(models) if shares is None else list(shares)
    if len(parts) != len(models) or abs(sum(parts) - 1) > 1e-6:
        raise StrategyError(
            f"{len(models)} networks have the shares {parts}; expected one each, adding up to 1."
        )
    tensors = [dict(named_tensors(each)) for each in models]
    for other in tensors:
        bad = {
            n for n, t in other.items() if n not in tensors[-1] or t.shape != tensors[-1][n].shape
        }
        bad |= tensors[-1].keys() - other.keys()
        if bad:
            raise StrategyError(
                f"The networks differ in {min(bad)} ({len(bad)} tensors in all). Average networks "
                "of one architecture, trained from one start."
            )
    made, weights = copy.deepcopy(models[-1]), torch.tensor(parts, dtype=torch.float64)
    for name, tensor in named_tensors(made):
        if tensor.is_floating_point():
            stacked = torch.stack([each[name].double() for each in tensors])
            tensor.copy_(torch.tensordot(weights, stacked.cpu(), 1))
    return made


def interpolate(start: nn.Module, end: nn.Module, share: float) -> nn.Module:
    """WiSE-FT: the network a part of the way from the start (0) to the fine-tuned one (1).

    Args:
        start: the network before fine-tuning, with a head that works: zero-shot or a linear probe.
        end: the same network after it.
        share: how far to go.

    Raises:
        StrategyError: the networks don't match.
    """
    return average([start, end], [1 - share, share])


def greedy_soup(models: Sequence[nn.Module], score: Callable[[nn.Module], float]) -> nn.Module:
    """Begin with the best network; take in each other one if the mean doesn't get worse by it.

    Args:
        models: trained from one start.
        score: of a network, larger is better, on validation pictures: it chooses.

    Returns:
        The mean of the networks taken in.

    Raises:
        StrategyError: no network, or networks that don't match.
    """
    ordered = sorted(models, key=score, reverse=True)
    taken, best = list(ordered[:1]), average(ordered[:1])
    reached = score(best)
    for each in ordered[1:]:
        tried = average([*taken, each])
        now = score(tried)
        if now >= reached:
            taken, best, reached = [*taken, each], tried, now
    return best
