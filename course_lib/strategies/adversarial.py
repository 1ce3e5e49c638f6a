"""Domain-adversarial training: features by which nobody can tell the two domains apart.

Labelled pictures of one domain (the source), pictures without labels of another (the target). A
body gives features; a head tells the classes, on source pictures; a second head, the critic, tells
the domains. Between body and critic the gradient is reversed, so that the body learns to mislead
it: Y. Ganin et al.: Domain-Adversarial Training of Neural Networks, JMLR 2016, arXiv:1505.07818.

:func:`statistics_of` is the simpler rival, without any training: only BatchNorm's statistics are
taken from the target (AdaBN: Y. Li et al., 2016, arXiv:1603.04779).
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from course_lib.profile import seeded_generator
from course_lib.strategies.inserts import StrategyError

STEEPNESS = 10.0  # of the ramp, as in the paper


class GradientReversal(torch.autograd.Function):
    """Forward: nothing. Backward: the gradient times minus the strength."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        """The same numbers, of any shape."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """What comes from above, turned round; the strength itself gets no gradient."""
        return -ctx.strength * gradients[0], None


def reverse(x: Tensor, strength: float) -> Tensor:
    """``x`` as it is; on the way back its gradient is multiplied by ``-strength``."""
    return GradientReversal.apply(x, strength)


def ramp(progress: float) -> float:
    """The share of the strength at a point of the training, as in the paper.

    Args:
        progress: 0 at the start, 1 at the end.

    Returns:
        From 0 to nearly 1: so that a critic that knows nothing yet doesn't lead the body.
    """
    return 2 / (1 + math.exp(-STEEPNESS * progress)) - 1


def domain_head(width: int, hidden: int = 64) -> nn.Sequential:
    """A critic: from features (N, width) to one number each, positive for the target."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Flatten(0))


def adversarial_losses(
    body: nn.Module,
    head: nn.Module,
    critic: nn.Module,
    source: tuple[Tensor, Tensor],
    target: Tensor,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """The two losses of one step: of the classes, on the source; of the domains, on both.

    Each domain passes through the body by itself, so that BatchNorm normalises each by its own.

    Args:
        body: from pictures to features (N, width).
        head: from features to scores (N, classes).
        critic: from features to one number each.
        source: pictures and their classes (N,).
        target: pictures, as many or not, without classes.
        strength: of the reversal; 0 leaves the body to the classes alone.
    """
    of_source, of_target = body(source[0]), body(target)
    classes = F.cross_entropy(head(of_source), source[1])
    told = critic(reverse(torch.cat([of_source, of_target]), strength))
    domain = torch.cat([torch.zeros(len(of_source)), torch.ones(len(of_target))]).to(told)
    return classes, F.binary_cross_entropy_with_logits(told, domain)


def train_adversarial(
    body: nn.Module,
    head: nn.Module,
    critic: nn.Module,
    source: tuple[Tensor, Tensor],
    target: Tensor,
    *,
    strength: float = 1.0,
    steps: int = 300,
    lr: float = 0.001,
    batch_size: int = 32,
    seed: int = 0,
) -> nn.Sequential:
    """Train all three in place, with Adam; the strength grows as :func:`ramp` says.

    Args:
        body, head, critic, source, target: as in :func:`adversarial_losses`, all pictures.
        strength: that the reversal has at the end. With 0 it is training on the source alone,
            while the critic only watches.
        steps: how many.
        lr: learning rate.
        batch_size: pictures of each domain in a step.
        seed: of the order.

    Returns:
        Body and head, in evaluation mode. BatchNorm's running statistics are a mixture of both
        domains; :func:`statistics_of` takes those of one.

    Raises:
        StrategyError: a domain has no pictures, or the source not as many classes as pictures.
    """
    if not len(target) or not len(source[0]) == len(source[1]) > 0:
        raise StrategyError(
            f"There are {len(source[0])} source pictures, {len(source[1])} classes of them and "
            f"{len(target)} target pictures; expected a class for each source picture, and at "
            "least one of each domain."
        )
    modules = (body, head, critic)
    trained = [each for part in modules for each in part.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=lr)
    rows = _batches(len(source[1]), batch_size, seed)
    others = _batches(len(target), batch_size, seed + 1)
    for part in modules:
        part.train()
    for step in range(steps):
        one, two = next(rows), next(others)
        losses = adversarial_losses(
            *modules, (source[0][one], source[1][one]), target[two], strength * ramp(step / steps)
        )
        optimizer.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        optimizer.step()
    return nn.Sequential(body, head).eval()


def _batches(length: int, size: int, seed: int) -> Iterator[Tensor]:
    """Row numbers without end, in full batches; what is left over of a round is dropped."""
    stream = seeded_generator(seed)
    while True:
        rounds = torch.randperm(length, generator=stream).split(size)
        yield from (each for each in rounds if len(each) == min(size, length))


@torch.no_grad()
def statistics_of(model: nn.Module, images: Tensor) -> nn.Module:
    """A copy of the model whose BatchNorm layers hold the statistics of these pictures alone.

    No label and no training is needed. The pictures go through in one batch: mean and (unbiased)
    variance of what enters a layer are computed while the layers before it normalise by theirs.
    The model itself stays bit for bit as it is, and frozen layers keep their statistics in the
    copy, too: ``freezing.unfreeze`` them first if they are to change.

    Args:
        model: with BatchNorm layers.
        images: of one domain, (N, ...), two or more.

    Raises:
        StrategyError: no BatchNorm layer that may change, or fewer than two pictures.
    """
    if len(images) < 2:
        raise StrategyError(f"Statistics need two pictures or more; there are {len(images)}.")
    made = copy.deepcopy(model).eval()
    found = [
        each for each in made.modules()
        if isinstance(each, _BatchNorm) and each.track_running_stats and each.train().training
    ]  # fmt: skip
    if not found:
        raise StrategyError(
            "The model has no BatchNorm layer whose statistics may change. Choose one with "
            "BatchNorm, or unfreeze its layers: freezing.unfreeze(model, names)."
        )
    before = [each.momentum for each in found]
    for each in found:
        each.reset_running_stats()
        each.momentum = None  # an average over all that passes, and that is one batch
    made(images)
    for each, momentum in zip(found, before, strict=True):
        each.momentum = momentum
    return made.eval()
