"""Content and style in codes of their own, so that one can be swapped and the other kept.

An autoencoder with two codes sees the same pictures in several looks. Reconstruction alone says
nothing of what stands in which code. Knowledge of pairs does: the content of picture i in one look
and the style of picture j in another have to give picture i in the other look, and the content of
picture i is to be the same in both. (Pairs, triplets and what they can't promise: A. Szabó et al.:
Challenges in Disentangling Independent Factors of Variation, 2017, arXiv:1711.02245. Swaps without
pairs: Q. Hu et al., CVPR 2018, arXiv:1711.07410.) Without any such knowledge no method can be sure
to find the factors: F. Locatello et al., ICML 2019, arXiv:1811.12359. What is left of one factor in
the other's code is measured by a :func:`probe_codes`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.features import classifiers
from course_lib.profile import own_streams, seeded_generator
from course_lib.strategies.domain_data import slanted
from course_lib.strategies.inserts import StrategyError

LOOKS = ("as it is", "inverted", "thick", "slanted")


def in_all_looks(images: Tensor) -> Tensor:
    """Pictures (N, 1, H, W) from 0 to 1, in each of :data:`LOOKS`: (4, N, 1, H, W)."""
    thick = F.max_pool2d(F.pad(images, (0, 1, 0, 1)), 2, stride=1)
    return torch.stack([images, 1 - images, thick, slanted(images)])


class TwoCodes(nn.Module):
    """An autoencoder for pictures (N, 1, side, side) with a code for content and one for style.

    Both codes are brought to mean 0 and variance 1 by BatchNorm, so that a code can't look equal
    by becoming small.

    Args:
        side: of the pictures, in pixels.
        content: numbers in the content code.
        style: numbers in the style code.
        hidden: width of the hidden layers.
    """

    def __init__(self, side: int = 8, content: int = 16, style: int = 4, hidden: int = 128) -> None:
        super().__init__()
        self.sizes = [content, style]
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(side * side, hidden), nn.ReLU(), nn.Linear(hidden, hidden),
            nn.ReLU(), nn.Linear(hidden, content + style),
            nn.BatchNorm1d(content + style, affine=False),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(content + style, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, side * side), nn.Unflatten(1, (1, side, side)),
        )  # fmt: skip

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Content (N, content) and style (N, style)."""
        content, style = self.encoder(images).split(self.sizes, dim=1)
        return content, style

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Pictures (N, 1, side, side) from the two codes."""
        return self.decoder(torch.cat([content, style], dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(*self.encode(images))


def swap(model: TwoCodes, contents: Tensor, styles: Tensor) -> Tensor:
    """The content of the first pictures in the style of the second ones, one by one."""
    return model.decode(model.encode(contents)[0], model.encode(styles)[1])


def code_losses(
    model: TwoCodes, here: Tensor, there: Tensor, others: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Three losses: what reconstruction, swaps and pairs ask for.

    Args:
        model: the autoencoder.
        here: pictures (N, 1, side, side), each in a look.
        there: the same pictures, each in a look that may be another.
        others: other pictures, one by one in the looks of ``there``.

    Returns:
        The squared error of all reconstructions; of ``here``'s content in the style of ``others``
        against ``there``; and the squared distance of the contents of ``here`` and ``there``.
    """
    seen = torch.cat([here, there, others])
    content, style = model.encode(seen)
    of_here, of_there, _ = content.chunk(3)
    mixed = model.decode(of_here, style.chunk(3)[2])
    return (
        F.mse_loss(model.decode(content, style), seen),
        F.mse_loss(mixed, there),
        F.mse_loss(of_here, of_there),
    )


def train_two_codes(
    looks: Tensor,
    *,
    swaps: float = 1.0,
    pairs: float = 0.1,
    steps: int = 600,
    lr: float = 0.002,
    batch_size: int = 64,
    seed: int = 0,
) -> TwoCodes:
    """A new autoencoder, trained with Adam; with both weights 0 it only reconstructs.

    Args:
        looks: the same pictures in each look, (looks, N, 1, side, side).
        swaps: weight of the swaps' loss.
        pairs: weight of the pairs' loss.
        steps: how many.
        lr: learning rate.
        batch_size: pictures in a step, each in two looks, and as many others.
        seed: of the weights and of the order.

    Returns:
        The autoencoder in evaluation mode.

    Raises:
        StrategyError: fewer than two pictures, or fewer than two looks.
    """
    if looks.ndim != 5 or min(looks.shape[:2]) < 2:
        raise StrategyError(
            f"Pictures of shape {tuple(looks.shape)}; expected (looks, pictures, 1, side, side) "
            "with two looks and two pictures at least: in_all_looks makes them."
        )
    with own_streams(seed):
        model = TwoCodes(looks.shape[-1]).to(looks.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    stream = seeded_generator(seed)
    for _ in range(steps):
        rows = torch.randint(looks.shape[1], (batch_size,), generator=stream)
        others = torch.randint(looks.shape[1], (batch_size,), generator=stream)
        a, b = torch.randint(len(looks), (2, batch_size), generator=stream)
        losses = code_losses(model, looks[a, rows], looks[b, rows], looks[b, others])
        optimizer.zero_grad()
        (losses[0] + swaps * losses[1] + pairs * losses[2]).backward()
        optimizer.step()
    return model.eval()


def probe_codes(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, float]:
    """What can be predicted from a code: test accuracy of three classifiers.

    Args:
        train: codes (N, D) and what is to be predicted (N,), class numbers.
        test: likewise, of other pictures.

    Returns:
        By ``"logistic_regression"``, a line; by ``"svm"`` and ``"knn"``, which see more. Compare
        with chance: an accuracy above it is a leak, one at it shows that *these* found nothing.
    """
    found = {}
    for name in ("logistic_regression", "svm", "knn"):
        model = classifiers()[name].fit(*(each.cpu().numpy() for each in train))
        found[name] = float(model.score(*(each.cpu().numpy() for each in test)))
    return found
