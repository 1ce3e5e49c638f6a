"""Divide a data set: a validation part, or a smaller set with the classes in balance.

Who goes where is a lottery: each picture gets a ticket, computed from the seed and from what
identifies the picture, and the lowest tickets win. No random generator is involved, so the result
is the same on every machine and under every version of every library; and when a picture is added
to a class, at most one of the others there changes sides.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset, Subset

from course_lib.errors import DataError


def ticket(seed: int, key: str) -> str:
    """A number between 0 and 2**256, in hexadecimal, that nobody can foresee: SHA-256."""
    return hashlib.sha256(f"{seed}:{key}".encode(errors="surrogateescape")).hexdigest()


def stratified_split(
    targets: Sequence[Any], keys: Sequence[str], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Divide examples in two, each class in the same proportion.

    Examples with equal keys are copies of one picture and stay together, also when they lie in two
    classes; then the class of the first counts.

    Args:
        targets: the class of each example, as a number or a name.
        keys: what identifies each example, for instance a hash of its content.
        fraction: the second part's share of each class, between 0 and 1. It is rounded to whole
            groups of copies; at least one of each class goes to either side.
        seed: another seed gives another division.

    Returns:
        The indices of the first part and those of the second, both ascending.

    Raises:
        DataError: fraction not between 0 and 1, or a class of fewer than two different pictures.
    """
    if not 0 < fraction < 1:
        raise DataError(f"The fraction of a split must lie between 0 and 1; it is {fraction}.")
    groups: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    by_class: dict[Any, list[str]] = defaultdict(list)
    for key, members in groups.items():
        by_class[targets[members[0]]].append(key)

    second: list[int] = []
    for target in sorted(set(targets)):
        drawn = sorted(by_class[target], key=lambda key: (ticket(seed, key), key))
        if len(drawn) < 2:
            raise DataError(
                f"Class {target!r} has {len(drawn)} different picture(s) of its own; to be divided "
                "it needs at least 2."
            )
        count = min(max(round(fraction * len(drawn)), 1), len(drawn) - 1)
        second += [index for key in drawn[:count] for index in groups[key]]
    chosen = set(second)
    return [index for index in range(len(targets)) if index not in chosen], sorted(second)


class LabelledSubset(Subset[Any]):
    """A :class:`torch.utils.data.Subset` that still knows its classes, targets and paths."""

    def __init__(self, dataset: Dataset[Any], indices: Sequence[int]) -> None:
        super().__init__(dataset, indices)
        self.targets = [int(dataset.targets[index]) for index in indices]  # type: ignore[attr-defined]
        for name in ("classes", "paths"):
            if hasattr(dataset, name):
                whole = getattr(dataset, name)
                part = whole if name == "classes" else [whole[index] for index in indices]
                setattr(self, name, part)


def balanced_subset(dataset: Dataset[Any], n: int, seed: int = 0) -> LabelledSubset:
    """``n`` examples of a data set, every class equally often (give or take one).

    The subsets of one seed are nested: the 20 examples of ``n=20`` contain the 10 of ``n=10``, so
    that a curve over the amount of data adds examples and never swaps them.

    Args:
        dataset: with ``.targets``, the class of each example.
        n: examples in all. If it is not a multiple of the number of classes, the first classes
            have one more than the others.
        seed: another seed gives another choice.

    Returns:
        A subset in the order of ``dataset``, with ``.targets``, and with ``.classes`` and
        ``.paths`` if ``dataset`` has them.

    Raises:
        DataError: ``dataset`` has no ``.targets``, ``n`` is less than 1, or a class has too few
            examples.
    """
    if not hasattr(dataset, "targets"):
        raise DataError(
            f"A {type(dataset).__name__} has no .targets, so its classes can't be balanced. "
            "Give it a list `targets` with the class of each example."
        )
    by_class: dict[int, list[int]] = defaultdict(list)
    for index, target in enumerate(dataset.targets):
        by_class[int(target)].append(index)
    if n < 1 or not by_class:
        raise DataError(f"Can't choose {n} of the {len(dataset.targets)} examples; n must be >= 1.")

    chosen: list[int] = []
    for place, target in enumerate(sorted(by_class)):
        wanted = n // len(by_class) + (place < n % len(by_class))
        if wanted > len(by_class[target]):
            raise DataError(
                f"{n} examples in balance need {wanted} of class {target}, which has "
                f"{len(by_class[target])}. The most that can be had in balance is "
                f"{len(by_class) * min(map(len, by_class.values()))}."
            )
        drawn = sorted(by_class[target], key=lambda index: (ticket(seed, str(index)), index))
        chosen += drawn[:wanted]
    return LabelledSubset(dataset, sorted(chosen))
