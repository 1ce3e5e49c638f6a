"""What the recipe measures before it plans."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from course_lib.recipe.answers import Answers, Share
from course_lib.text import counted

FEW, MANY = 20, 200
"""Training pictures a class: below the first is few, from the second on many."""

CLOSE, FAR = 0.9, 0.6
"""Similarity (see :class:`Facts`): from the first on close, below the second far."""

ENOUGH = 10  # pictures of a class, below which its share of right answers says little
ENOUGH_TO_VALIDATE = 5  # the same, of its validation pictures
ENOUGH_TO_COMPARE = (
    100  # validation pictures, below which networks are compared by cross-validation
)

Amount = Literal["few", "some", "many"]
Distance = Literal["close", "middling", "far", "unclear"]


@dataclass(frozen=True)
class Facts:
    """What the recipe measured before it planned.

    Attributes:
        classes: their names.
        training: training pictures of each class.
        validation: validation pictures of each class.
        separated: balanced accuracy of a linear layer on the frozen features, on training and
            validation pictures that it hasn't seen (cross-validation), with its interval.
        blocks: the body's parts, first to last.
    """

    classes: tuple[str, ...]
    training: tuple[int, ...]
    validation: tuple[int, ...]
    separated: Share
    blocks: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Pictures of each class, training and validation together."""
        return tuple(map(sum, zip(self.training, self.validation, strict=True)))

    @property
    def pictures(self) -> int:
        """To train on and to choose by."""
        return sum(self.counts)

    @property
    def smallest(self) -> int:
        """Pictures in the smallest class that has any."""
        return min(each for each in self.counts if each)

    @property
    def similarity(self) -> Share:
        """How much of the way from guessing to perfect the frozen features go: 1 is all of it."""
        guess = 1 / sum(1 for each in self.counts if each)
        seen = self.separated
        way = [max(0.0, (each - guess) / (1 - guess)) for each in (seen.value, seen.low, seen.high)]
        return Share(*way)

    @property
    def amount(self) -> Amount:
        """How many pictures there are, by the smallest class."""
        return "few" if self.smallest < FEW else "many" if self.smallest >= MANY else "some"

    @property
    def distance(self) -> Distance:
        """How far the source is from the task, by the similarity; as far as its interval tells.

        With few pictures of a class a head fails for want of them, however close the source is.
        """
        way = self.similarity
        if way.low >= CLOSE:
            return "close"
        if self.amount == "few":
            return "unclear"
        if way.high < FAR:
            return "far"
        return "middling" if way.low >= FAR and way.high < CLOSE else "unclear"

    @property
    def folds(self) -> int:
        """How trained networks are compared: 1, by the validation pictures; 3, cross-validated."""
        few = any(v < ENOUGH for v, n in zip(self.validation, self.counts, strict=True) if n)
        return 3 if few or sum(self.validation) < ENOUGH_TO_COMPARE else 1

    def warnings(self) -> list[str]:
        """The classes that are too small to be sure of anything, each with what to do."""
        found = []
        for name, all_of_it, val in zip(self.classes, self.counts, self.validation, strict=True):
            if not all_of_it:
                found.append(
                    f"{name} has no picture to learn from: it is never answered. Add some."
                )
            elif all_of_it < ENOUGH:
                found.append(
                    f"{name} has {counted(all_of_it, 'picture')} in all, fewer than {ENOUGH}: what "
                    "is said about it rests on those few. They are predicted in turn, each by a "
                    "head that hasn't seen it (cross-validation). Add pictures of it."
                )
            elif val < ENOUGH_TO_VALIDATE:
                found.append(
                    f"{name} has {counted(val, 'validation picture')}, fewer than "
                    f"{ENOUGH_TO_VALIDATE}: cross-validation over all its {all_of_it} takes over."
                )
        return found


def measure(
    classes: tuple[str, ...],
    training: Tensor,
    validation: Tensor,
    unseen: Answers,
    model: nn.Module,
    head: str,
) -> Facts:
    """The facts about a task.

    Args:
        classes: their names.
        training: class numbers (N,) of the training pictures.
        validation: class numbers (M,) of the validation pictures.
        unseen: what a head on the frozen features says about them, not having seen them.
        model: the network.
        head: dotted name of its head.
    """
    learned, held_out = (
        tuple(torch.bincount(each, minlength=len(classes)).tolist())
        for each in (training, validation)
    )
    return Facts(classes, learned, held_out, unseen.balanced_accuracy, body_blocks(model, head))


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
