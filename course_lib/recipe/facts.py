"""What the recipe measures before it plans."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import nn

from course_lib.features import Features
from course_lib.recipe.heads import classifier

FEW, MANY = 20, 200
"""Training pictures a class: below the first is few, from the second on many."""

CLOSE, FAR = 0.9, 0.6
"""Similarity (see :class:`Facts`): from the first on close, below the second far."""

FOLDS, PENALTY = 5, 0.1  # of the cross-validation

Amount = Literal["few", "some", "many"]
Distance = Literal["close", "middling", "far"]


@dataclass(frozen=True)
class Facts:
    """What the recipe measured before it planned.

    Attributes:
        pictures: to train on.
        classes: how many.
        smallest: pictures in the smallest class.
        separated: share of the training pictures that a linear layer on the frozen features gets
            right when it hasn't seen them (cross-validation).
        largest_share: of the largest class; what guessing would get right.
        blocks: the body's parts, first to last.
    """

    pictures: int
    classes: int
    smallest: int
    separated: float
    largest_share: float
    blocks: tuple[str, ...]

    @property
    def similarity(self) -> float:
        """How much of the way from guessing to perfect the frozen features go: 1 is all of it."""
        room = 1 - self.largest_share
        return max(0.0, (self.separated - self.largest_share) / room) if room else 0.0

    @property
    def amount(self) -> Amount:
        """How many pictures there are, by the smallest class."""
        return "few" if self.smallest < FEW else "many" if self.smallest >= MANY else "some"

    @property
    def distance(self) -> Distance:
        """How far the source is from the task, by the similarity."""
        close = self.similarity >= CLOSE
        return "close" if close else "far" if self.similarity < FAR else "middling"


def measure(rows: Features, model: nn.Module, head: str) -> Facts:
    """The facts about a task.

    Args:
        rows: features (N, D) of the training pictures, from the frozen network.
        model: the network.
        head: dotted name of its head.
    """
    counts = torch.bincount(rows.targets)
    present = counts[counts > 0]
    return Facts(
        pictures=len(rows),
        classes=len(present),
        smallest=int(present.min()),
        separated=separated(rows),
        largest_share=float(present.max() / len(rows)),
        blocks=body_blocks(model, head),
    )


def separated(rows: Features) -> float:
    """Share of rows that a linear layer gets right when it hasn't seen them: cross-validation.

    Args:
        rows: features (N, D).

    Returns:
        A number between 0 and 1; nan if a class has only one row.
    """
    x, y = rows.arrays()
    folds = min(FOLDS, int(torch.bincount(rows.targets)[rows.targets.unique()].min()))
    if folds < 2:
        return math.nan
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(classifier(PENALTY), x, y, cv=splits).mean())


def body_blocks(model: nn.Module, head: str) -> tuple[str, ...]:
    """The parts of a network before its head that have parameters, first to last.

    They are its direct children; a child that is a sequence of several such parts counts as those.
    """
    found: list[str] = []
    for name, child in model.named_children():
        if name == head or not _has_parameters(child):
            continue
        inner = [n for n, each in child.named_children() if _has_parameters(each)]
        if head.startswith(f"{name}.") or (isinstance(child, nn.Sequential) and len(inner) > 1):
            full = [f"{name}.{each}" for each in inner]
            found += [each for each in full if each != head and not head.startswith(f"{each}.")]
        else:
            found.append(name)
    return tuple(found)


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
