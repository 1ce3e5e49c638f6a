"""Pretraining without labels: the pictures themselves pose the question.

Rotation: turn each picture by 0, 90, 180 or 270 degrees and let the network tell which. Contrast
(SimCLR): two views of one picture belong together, those of different pictures apart. Either way,
what is kept is the body; the head of the posed question is thrown away.

Sources: S. Gidaris, P. Singh, N. Komodakis: Unsupervised Representation Learning by Predicting
Image Rotations, ICLR 2018, arXiv:1803.07728; T. Chen et al.: A Simple Framework for Contrastive
Learning of Visual Representations, ICML 2020, arXiv:2002.05709.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.profile import seeded_generator
from course_lib.strategies.inserts import StrategyError
from course_lib.training.evaluation import evaluation_mode

View = Callable[[Tensor, torch.Generator], Tensor]
"""Pictures (B, C, H, W) to as many changed ones, drawn from the stream."""


def rotated(images: Tensor) -> tuple[Tensor, Tensor]:
    """Every picture in its four quarter turns, counter-clockwise, and how many turns these are.

    Args:
        images: (N, C, S, S), square.

    Returns:
        Pictures (4N, C, S, S), first all unturned, then all with one turn, and so on; and turns
        (4N,), 0 to 3.

    Raises:
        StrategyError: pictures that aren't square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise StrategyError(
            f"The pictures are {images.shape[-2]} by {images.shape[-1]} pixels; a quarter turn "
            "needs squares. Crop them first."
        )
    turned = [images.rot90(turns, (2, 3)) for turns in range(4)]
    turns = torch.arange(4, device=images.device)
    return torch.cat(turned), turns.repeat_interleave(len(images))


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """SimCLR's loss: of 2B - 1 other views, which one shows the same picture?

    Args:
        first: (B, D), a projection of one view of each picture; brought to length 1 here.
        second: likewise of another view, in the same order.
        temperature: similarities (cosines) are divided by it; smaller looks at near ones more.

    Returns:
        The mean cross-entropy over all 2B views.

    Raises:
        StrategyError: unequal shapes, fewer than two pictures, or a temperature that isn't above 0.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise StrategyError(
            f"The views are {tuple(first.shape)} and {tuple(second.shape)}; expected (B, D) twice, "
            "of two pictures or more: without others there is no contrast."
        )
    if temperature <= 0:
        raise StrategyError(
            f"temperature is {temperature}; expected a number above 0, such as 0.5."
        )
    rows = F.normalize(torch.cat([first, second]), dim=1)
    likeness = rows @ rows.T / temperature
    likeness.fill_diagonal_(-math.inf)  # nobody is asked about itself
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return F.cross_entropy(likeness, partner)


def digit_view(images: Tensor, stream: torch.Generator) -> Tensor:
    """A digit, seen otherwise: turned a little, scaled, moved, fainter or stronger, noisy.

    No flips and no large turns: a mirrored 2 is no 2, and a 6 on its head is a 9. A view must leave
    alone what the later task asks for.

    Args:
        images: (B, C, S, S), values about 0 to 1.
        stream: turns by up to 15 degrees, sizes of 0.85 to 1.15, moves of up to an eighth of the
            side, strengths of 0.7 to 1.3, noise of standard deviation 0.1.
    """
    return _seen(images, stream, turn=15, sizes=(0.85, 1.15), move=0.125, flip=False, noise=0.1)


def photograph_view(images: Tensor, stream: torch.Generator) -> Tensor:
    """A photograph, seen otherwise: a part of it, perhaps mirrored, in other light, perhaps grey.

    Args:
        images: (B, 3, S, S), values about -1 to 1.
        stream: as it says.
    """
    seen = _seen(images, stream, turn=0, sizes=(0.4, 1.0), move=0.25, flip=True, noise=0.0)
    tint = 1 + 0.8 * (torch.rand(len(images), 3, 1, 1, generator=stream) - 0.5)
    grey = torch.rand(len(images), 1, 1, 1, generator=stream) < 0.2
    tinted = seen * tint.to(seen)
    return torch.where(grey.to(seen.device), seen.mean(1, keepdim=True), tinted)


def _seen(
    images: Tensor, stream: torch.Generator, turn: float, sizes: tuple[float, float], move: float,
    flip: bool, noise: float,
) -> Tensor:  # fmt: skip
    """Each picture through a window of its own: turned, of some size and place."""

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), generator=stream)

    angle = between(-turn, turn).deg2rad()
    size, strength = between(*sizes), between(0.7, 1.3)
    mirror = torch.where(between(-1, 1) < 0, -1.0, 1.0) if flip else torch.ones(len(images))
    across, down = between(-2 * move, 2 * move), between(-2 * move, 2 * move)
    matrix = torch.stack([
        torch.stack([mirror * size * angle.cos(), -size * angle.sin(), across], dim=1),
        torch.stack([mirror * size * angle.sin(), size * angle.cos(), down], dim=1),
    ], dim=1)  # fmt: skip
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    edge = "reflection" if flip else "zeros"  # around a digit there is nothing
    seen = F.grid_sample(images, grid, padding_mode=edge, align_corners=False)
    seen = seen * strength.to(images)[:, None, None, None]
    if not noise:
        return seen
    return seen + noise * torch.randn(images.shape, generator=stream).to(images)


def by_rotation(
    body: nn.Module, images: Tensor, *, rate: float = 0.03, steps: int = 300, batch_size: int = 32,
    seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train a body to tell quarter turns apart; the head for it is made here and thrown away.

    Args:
        body: gives features (B, D); trained in place by SGD with momentum 0.9.
        images: (N, C, S, S), without labels.
        rate: learning rate.
        steps: how many.
        batch_size: pictures a step, each in four turns.
        seed: of head and order.

    Returns:
        The loss of each step.

    Raises:
        StrategyError: fewer than two pictures, or a body that gives no rows.
    """
    width = _width(body, images)
    head = _drawn(seed, lambda: nn.Linear(width, 4)).to(images.device)

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        turned, turns = rotated(batch)
        return F.cross_entropy(head(body(turned)), turns)

    return _train(body, head, loss, images, rate, steps, batch_size, seed)


def by_contrast(
    body: nn.Module, images: Tensor, view: View, *, temperature: float = 0.5, rate: float = 0.03,
    steps: int = 300, batch_size: int = 128, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Train a body by SimCLR; the projection (D to 64 to 32) is made here and thrown away.

    Args:
        body: gives features (B, D); trained in place by SGD with momentum 0.9.
        images: (N, C, S, S), without labels.
        view: draws one view of each picture of a batch; it is called twice.
        temperature: see :func:`nt_xent`.
        rate: learning rate.
        steps: how many.
        batch_size: pictures a step; large, since the others of a batch are the contrast.
        seed: of projection, order and views.

    Returns:
        The loss of each step.

    Raises:
        StrategyError: fewer than two pictures, or a body that gives no rows.
    """
    width = _width(body, images)
    head = _drawn(seed, lambda: nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 32)))
    head.to(images.device)

    def loss(batch: Tensor, stream: torch.Generator) -> Tensor:
        both = torch.cat([view(batch, stream), view(batch, stream)])
        first, second = head(body(both)).chunk(2)
        return nt_xent(first, second, temperature)

    return _train(body, head, loss, images, rate, steps, batch_size, seed)


def _train(
    body: nn.Module, head: nn.Module, loss_of: Callable[[Tensor, torch.Generator], Tensor],
    images: Tensor, rate: float, steps: int, batch_size: int, seed: int,
) -> list[float]:  # fmt: skip
    if min(len(images), batch_size) < 2:
        raise StrategyError(
            f"There are {len(images)} pictures, in batches of {batch_size}; expected two or more "
            "of both: one picture alone has nothing to be told from."
        )
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=rate, momentum=0.9)
    stream, waiting, losses = seeded_generator(seed), list[Tensor](), []
    body.train()
    for _ in range(steps):
        waiting = waiting or [
            rows for rows in torch.randperm(len(images), generator=stream).split(batch_size)
            if len(rows) > 1
        ]  # fmt: skip
        loss = loss_of(images[waiting.pop(0)], stream)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    body.eval()
    return losses


def _drawn(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module with weights from the seed; the global stream is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@torch.no_grad()
def _width(body: nn.Module, images: Tensor) -> int:
    """How many features a body gives."""
    with evaluation_mode(body):
        features = body(images[:2])
    if features.ndim != 2:
        raise StrategyError(
            f"The body gives {tuple(features.shape)} for two pictures; expected (2, D). Pool or "
            "flatten its maps."
        )
    return features.shape[1]
