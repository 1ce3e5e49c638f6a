"""What a network says about pictures that it hadn't seen, and whether it says it better."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import Tensor
from torch.nn import functional as F

LEVEL = 0.95  # of every interval here


@dataclass(frozen=True)
class Share:
    """A number with its 95 % interval.

    Attributes:
        value: such as right over all.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def wilson(right: int, n: int) -> Share:
    """A share with Wilson's interval (E. B. Wilson, JASA 22, 1927).

    It stays between 0 and 1 and isn't empty when everything is right, as the usual formula is.

    >>> print(wilson(40, 40))
    1.00 [0.91, 1.00]

    Args:
        right: how many.
        n: of how many, at least 1.

    Raises:
        ValueError: more right than there are, or none at all.
    """
    interval = binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return Share(right / n, float(interval.low), float(interval.high))


def balanced(right: list[int], n: list[int]) -> Share:
    """The mean over the classes of the share that is right: balanced accuracy.

    The interval adds up the classes' own uncertainty. Each is taken from Agresti and Coull's
    adjusted counts (two right and two wrong pictures more), so that a class of one picture, or one
    that is right throughout, isn't taken for certain.

    Args:
        right: of each class.
        n: pictures of each class; a class without one doesn't count.
    """
    pairs = [(hit, count) for hit, count in zip(right, n, strict=True) if count]
    value = sum(hit / count for hit, count in pairs) / len(pairs)
    adjusted = [((hit + 2) / (count + 4), count + 4) for hit, count in pairs]
    spread = 1.96 * math.sqrt(sum(p * (1 - p) / m for p, m in adjusted)) / len(pairs)
    return Share(value, max(0.0, value - spread), min(1.0, value + spread))


@dataclass(frozen=True, eq=False)
class Answers:
    """Scores for pictures that weren't learned from.

    Attributes:
        logits: (N, C).
        targets: (N,) class numbers.
        weights: (N,) what each picture counts; 1 on average.
    """

    logits: Tensor
    targets: Tensor
    weights: Tensor

    @cached_property
    def losses(self) -> Tensor:
        """(N,): each picture's log-loss times its weight."""
        return F.cross_entropy(self.logits.double(), self.targets, reduction="none") * self.weights

    @property
    def loss(self) -> float:
        """Log-loss, by which everything is chosen."""
        return float(self.losses.mean())

    @property
    def balanced_accuracy(self) -> Share:
        """See :func:`balanced`."""
        classes = self.logits.shape[1]
        right = self.targets[self.logits.argmax(dim=1) == self.targets]
        counts = (
            torch.bincount(each, minlength=classes).tolist() for each in (right, self.targets)
        )
        return balanced(*counts)

    def gain(self, other: "Answers") -> Share:
        """By how much the log-loss is below the other's, picture by picture (a paired comparison).

        Both must be about the same pictures. The gain is more than chance if ``low`` is above 0.
        """
        each = other.losses - self.losses
        if len(each) < 2:
            return Share(float(each.mean()), -math.inf, math.inf)
        wide = (
            student.ppf((1 + LEVEL) / 2, len(each) - 1) * float(each.std()) / math.sqrt(len(each))
        )
        value = float(each.mean())
        return Share(value, value - wide, value + wide)


def weights_for(targets: Tensor, class_weight: str | None) -> Tensor:
    """(N,): what each picture counts, 1 on average.

    Args:
        targets: (N,) class numbers.
        class_weight: ``"balanced"``: every class counts the same, however many pictures it has;
            None: every picture does.
    """
    if class_weight is None:
        return torch.ones(len(targets), dtype=torch.float64)
    counts = torch.bincount(targets)
    return len(targets) / ((counts > 0).sum() * counts[targets].double())
